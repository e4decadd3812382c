"""L2-regularised logistic regression for many problems at once.

This subpackage does not depend on the rest of the package.

Problem k minimises, over the coefficients w and an unpenalised intercept b,

    J = c_k Σ_i t_ik [log(1 + exp f_i) - y_ik f_i] + ½ Σ_j (s_kj w_j)²,      f = X w + b,

where t_ik is 1 for training rows and 0 for other rows, and s_k scales the penalty on each feature.  If s_k contains the
standard deviations over the training rows, this is logistic regression on standardised features, as fitted by
scikit-learn's ``StandardScaler`` and ``LogisticRegression(C=c_k)``, but it does not require a copy of X per problem.

The problems are solved together by preconditioned nonlinear conjugate gradients (Polak & Ribière 1969, restarted if a
direction is an ascent direction), so each step requires only a few matrix products.  Problems with the same design
matrix and C value differ in their training rows and labels, but have nearly the same Hessian.  They therefore share a
preconditioner: the inverse of the Hessian that is computed with their mean weights.  The unknowns are
the coefficients or, if there are at most as many rows as features, one number per row.  Converged problems are removed
from the batch.  The few problems that have not converged after 100 steps are solved by Newton's method, starting from
their last scores.  Problems with few rows or few features are solved by Newton's method alone.

Each module imports only modules listed above it.

::

    linalg         symmetric products and inverses
    newton         Newton's method for small problems, and for those on which the descent does not converge
    problems       the state of the problems during the descent
    space          preconditioned steps in a space of unknowns
    feature_space  one unknown per feature
    row_space      one unknown per row
    descent        the joint descent on all problems
    solver         fit_logistic and DesignMatrices, which use all of the modules above
"""
