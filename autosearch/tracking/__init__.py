"""Trials shown elsewhere, too: in MLflow, Weights & Biases, TensorBoard.

What is stored here is what counts. A tracker is told of trials that have their final status, by a
thread of its own, so that one that is away, slow or broken neither holds up nor fails a search;
``tracking.jsonl`` says what each has, and `send_rest` sends the rest.

It listens where trials are told, which every executor comes by. Ray Tune's logger callbacks would
see only what Tune's own trials report (none in the calling process, none that is taken from the
cache or from an earlier study, or that cannot be built), and Optuna's callbacks belong to its
objective functions, which are not used here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
