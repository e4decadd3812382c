"""Regularised logistic regression of many problems at once; independent of the rest of the package.

A module imports only modules listed above it, here and in the packages above.

::

    newton  Newton's method for a single problem
    space   the unknowns of the problems, by features or by rows, and the preconditioner
    solver  the descent on all problems together
"""
