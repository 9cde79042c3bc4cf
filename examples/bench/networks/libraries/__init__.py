"""One library of networks per file: ``names()`` lists them, ``entry(name)`` says how to build one, and on what."""
