"""Log a series of checkpoints, and the study of them, to Weights & Biases.

    cnatool demo -o demo
    python examples/log_to_wandb.py demo --by run
    wandb sync tracked/wandb/offline-run-*

Each run of training is a run there, with its tags as configuration and its measures by step; the
study is a run of its own, with its correlations, pictures and JSON documents. Unless the variable
WANDB_MODE is "online", nothing leaves this machine: runs are files, to be sent later. Needs wandb.
"""

from __future__ import annotations

import os

from tracked import analyse, parse_words

PROJECT = "cnatool"


def main() -> None:
    """Score, and log what was found."""
    words = parse_words(__doc__)
    try:
        import wandb
    except ImportError:
        print("wandb is not installed: python -m pip install wandb")
        return
    results = analyse(words)
    os.environ.setdefault("WANDB_MODE", "offline")
    for run in results.runs:
        with wandb.init(
            project=PROJECT, name=run.name, dir=words.output, config=run.settings, reinit=True
        ) as logged:
            for step, measures in run.measures:
                logged.log(measures, step=step)
    with wandb.init(
        project=PROJECT, name="study", dir=words.output, config=results.settings, reinit=True
    ) as logged:
        logged.summary.update(results.correlations)
        files = wandb.Artifact("study", type="study")
        for path in results.files:
            files.add_file(str(path), f"{path.parent.name}/{path.name}")
            if path.suffix == ".png":
                logged.log({path.stem: wandb.Image(str(path))})
        logged.log_artifact(files)
    print(f"logged {len(results.runs)} runs and a study in {words.output / 'wandb'}")


if __name__ == "__main__":
    main()
