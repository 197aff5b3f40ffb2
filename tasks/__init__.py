"""One module a step: a plain function and its command line, which dvc.yaml calls.

And what `enginery` does with registered engines.
"""
