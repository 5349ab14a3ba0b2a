"""Our peers' own tests, run on our loops, our Popen and our workers.

    python -m tools.peers [cpython] [subprocess] [loops] [uvloop] [anyio] [trio] [shellous]
    python -m tools.peers futures multiprocessing
    python -m tools.peers all

From the project's folder, in an environment that has `.[test,peers]`; without a name, those of the
first line. CPython's come from the interpreter that runs this, and trio's are installed with it.
The others' come from the source distribution of the version that is installed, which pip fetches.
What cannot apply to us is in exceptions.py, with the reason.
"""
