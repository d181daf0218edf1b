"""The command: ``python tests/campaigns NAME --count N --seconds S --seed K --record FILE``."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from campaigns.campaign import FAILED, done_round, table
from campaigns.campaigns import CAMPAIGNS
from campaigns.rounds import rounds


def main() -> int:
    """Run one campaign, and print its results as a table."""
    listed = "\n".join(f"  {name:12} {each.what}" for name, each in CAMPAIGNS.items())
    parser = argparse.ArgumentParser(
        prog="python tests/campaigns",
        description=f"{__doc__}\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=CAMPAIGNS)
    parser.add_argument("--count", type=int, help="rounds to do")
    parser.add_argument("--seconds", type=float, help="begin no round after so many seconds")
    parser.add_argument("--jobs", type=int, default=1, help="rounds at the same time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="repeat this round alone, in this process")
    parser.add_argument("--record", type=Path, help="file of rounds, to continue a campaign")
    parser.add_argument("--folder", type=Path, help="where files are made")
    options = parser.parse_args()
    campaign = CAMPAIGNS[options.name]
    count = options.count
    if count is None and options.seconds is None:
        count = campaign.small
    done = []
    with tempfile.TemporaryDirectory(dir=options.folder, ignore_cleanup_errors=True) as folder:
        if options.only is not None:
            with campaign.prepared(Path(folder)) as attack:
                results = iter([done_round(options.name, attack, options.only, options.seed)])
        else:
            results = rounds(
                options.name,
                campaign,
                itertools.islice(itertools.count(), count),
                folder=Path(folder),
                seed=options.seed,
                seconds=options.seconds,
                record=options.record,
                jobs=options.jobs,
            )
        for each in results:
            done.append(each)
            if each.result == FAILED:
                print(f"round {each.number}: {each.error}", file=sys.stderr, flush=True)
    print(table(done))
    return int(any(each.result == FAILED for each in done))


if __name__ == "__main__":
    sys.exit(main())
