"""A parameter sweep: every model with every parameter, and the best of all."""

import importlib
import io
import json

import paddock


@paddock.pipeline(
    input=paddock.cross(
        paddock.glob("digits", "/", name="digits"),
        paddock.glob("models", "/*.json", name="model"),
        paddock.glob("scales", "/*.jsonl", split="jsonl", name="scale"),
    ),
    name="score",
    env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
)
def score(digits: dict[str, bytes], model: bytes, scale: bytes) -> dict[str, str]:
    """The accuracy of one model with one value of its parameter: the mean over three folds."""
    import numpy as np  # here, so that `best` starts without them
    from sklearn.model_selection import cross_val_score

    said, factor = json.loads(model), json.loads(scale)["scale"]
    value = type(said["default"])(said["default"] * factor)
    module, _, name = said["estimator"].rpartition(".")
    estimator = getattr(importlib.import_module(module), name)(**{said["parameter"]: value}, **said["fixed"])
    pictures, answers = (np.load(io.BytesIO(digits[name])) for name in ("/pictures.npy", "/digits.npy"))
    accuracy = cross_val_score(estimator, pictures / 16, answers, cv=3).mean()
    row = {"estimator": name, said["parameter"]: value, "accuracy": round(float(accuracy), 4)}
    return {f"/{name}-{factor}.json": json.dumps(row)}


@paddock.pipeline(input=paddock.glob("score", "/"), name="best")
def best(score: dict[str, bytes]) -> dict[str, str]:
    """All scores as a table, best first, and the best one alone."""
    rows = sorted((json.loads(row) for row in score.values()), key=lambda row: (-row["accuracy"], json.dumps(row)))
    return {"/all.jsonl": "".join(json.dumps(row) + "\n" for row in rows), "/best.json": json.dumps(rows[0]) + "\n"}
