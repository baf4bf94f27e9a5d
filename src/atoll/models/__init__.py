"""Fitted scikit-learn estimators as data: class name, parameters, fitted attributes. No pickle, no code.

`encode` turns an estimator into a `Model`, a message like any other, and `decode` builds it again; `to_bytes` and
`from_bytes` go through the wire format as well. The estimator that comes back is an ordinary one of scikit-learn, with
its own copies of the arrays, and predicts the same bits.

What is accepted: public classes of scikit-learn, nested as deeply as pipelines are, whose parameters and fitted
attributes are plain values, arrays, sparse matrices and estimators. Where scikit-learn keeps an object that is not
data but follows from data (a KD-tree, a loss), `hooks` rebuilds it. Everything else is refused by name.

Nothing in a message is imported by its name or evaluated: a class is looked up among those that scikit-learn makes
public, an attribute may not hide anything that its class defines, and what compiled code would trust is checked first.
A model is still only as good as whoever fitted it; `decode(..., allow=[...])` says which classes one expects.
"""

from __future__ import annotations

from atoll.models.codec import Model, decode, encode, from_bytes, to_bytes

__all__ = ["Model", "decode", "encode", "from_bytes", "to_bytes"]
