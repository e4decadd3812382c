"""Write the logs in ``golden`` with the tools that import is tested against; `requirements.txt` has their versions.

Run a copy of this directory outside any repository, because the tools record the repository and the paths of source
files::

    python make_logs.py lm-eval --model SmolLM2-135M-Instruct --out golden

The model is a directory of safetensors weights given relative to the working directory, because the logs contain its
path.  The Every Eval Ever package needs Python 3.12, so it has an environment of its own.
"""

import argparse
import os
from pathlib import Path


def main() -> None:
    """Parse the command line and run one tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=["lm-eval", "inspect", "inspect-unfinished", "every-eval-ever", "lighteval"])
    parser.add_argument("--model", type=Path, default=Path("SmolLM2-135M-Instruct"))
    parser.add_argument("--out", type=Path, default=Path("golden"))
    parser.add_argument("--only", default="", help="make only the logs whose name contains this text")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    options.out.mkdir(exist_ok=True)
    if options.tool == "lm-eval":
        from lm_eval_logs import make_lm_eval_logs

        make_lm_eval_logs(options.model, Path(), options.out, options.only)
    elif options.tool == "inspect":
        from inspect_logs import make_inspect_logs

        make_inspect_logs(options.model, options.out, options.only)
    elif options.tool == "inspect-unfinished":  # this process kills itself
        from inspect_logs import make_unfinished_log

        make_unfinished_log(options.model, options.out)
    elif options.tool == "lighteval":
        from lighteval_logs import make_lighteval_logs

        make_lighteval_logs(options.model, options.out, options.only)
    elif options.tool == "every-eval-ever":  # after the other tools, whose logs it converts
        from every_eval_ever_logs import make_every_eval_ever_logs

        make_every_eval_ever_logs(options.out)


if __name__ == "__main__":
    main()
