"""Our peers' own tests, run on our loops and our Popen: CPython's, uvloop's and anyio's.

    python -m tools.peers [cpython] [subprocess] [uvloop] [anyio]

From the project's folder, in an environment that has `.[test,peers]`; without a name, all of them.
CPython's come from the interpreter that runs this. uvloop's and anyio's come from the source
distribution of the version that is installed, which pip fetches. What cannot apply to us is in
exceptions.py, with the reason.
"""
