"""Log a series of checkpoints, and the study of them, to MLflow.

    cnatool demo -o demo
    python examples/log_to_mlflow.py demo --by run
    mlflow ui --backend-store-uri tracked/mlflow

Each run of training is a run of MLflow, with its tags as parameters and its measures by step; the
study is a run of its own, with its correlations, pictures and JSON documents. Without the variable
MLFLOW_TRACKING_URI they go to a folder, and no server is needed. Needs MLflow (mlflow-skinny does).
"""

from __future__ import annotations

import os

from tracked import analyse, parse_words


def main() -> None:
    """Score, and log what was found."""
    words = parse_words(__doc__)
    try:
        import mlflow
    except ImportError:
        print("MLflow is not installed: python -m pip install mlflow-skinny")
        return
    results = analyse(words)
    if "MLFLOW_TRACKING_URI" not in os.environ:
        # MLflow asks whoever keeps runs in files to say so.
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        mlflow.set_tracking_uri((words.output / "mlflow").resolve().as_uri())
    mlflow.set_experiment("cnatool")
    for run in results.runs:
        with mlflow.start_run(run_name=run.name):
            mlflow.log_params(run.settings)
            for step, measures in run.measures:
                mlflow.log_metrics(measures, step=step)
    with mlflow.start_run(run_name="study"):
        mlflow.log_params(results.settings)
        mlflow.log_metrics(results.correlations)
        for path in results.files:
            mlflow.log_artifact(str(path), path.parent.name)
    print(f"logged {len(results.runs)} runs and a study to {mlflow.get_tracking_uri()}")


if __name__ == "__main__":
    main()
