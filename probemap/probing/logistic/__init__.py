"""L2-regularised logistic regression of many problems at once; independent of the rest of the package.

Problem k minimises, over coefficients w and an intercept b without penalty,

    J = c_k Σ_i t_ik [log(1 + exp f_i) - y_ik f_i] + ½ Σ_j (s_kj w_j)²,      f = X w + b,

where t_ik is 1 for training rows and 0 for other rows, and s_k scales the penalty of each feature.  With s_k the
standard deviations over the training rows this is logistic regression on standardised features, as scikit-learn's
``StandardScaler`` and ``LogisticRegression(C=c_k)`` fit it, without a copy of X per problem.

All problems descend together by preconditioned nonlinear conjugate gradients (Polak & Ribière 1969, restarted at an
ascent direction), so that a step costs a few matrix products.  The problems of one design matrix and C value differ in
training rows and labels, but have nearly the same Hessian: one Cholesky factor of the Hessian at their mean weights
preconditions them all.  The unknowns are the coefficients or, with fewer rows than features, one number per row.
Converged problems leave the batch; the few that have not converged after 200 steps are solved by Newton's method.

A module imports only modules listed above it, here and in the packages above.

::

    linalg         symmetric products and Cholesky factors
    newton         Newton's method for problems on which the descent does not converge
    problems       the state of the problems during the descent
    space          preconditioned steps in a space of unknowns
    feature_space  one unknown per feature
    row_space      one unknown per row
    solver         fit_logistic: the descent on all problems together
    designs        DesignMatrices: standardised matrices on which many problems are fitted
"""
