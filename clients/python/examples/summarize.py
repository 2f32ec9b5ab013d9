"""Summarizes a file with progress: python examples/summarize.py FILE"""

import pathlib
import sys

from quire import Client, QuireError
from quire.v1 import quire_pb2 as pb


def show(progress):
    if progress.phase == pb.PHASE_ANSWER:
        return  # the summary itself is seen to grow
    phase = pb.Phase.Name(progress.phase)[len("PHASE_"):].lower()
    print(f"{phase}: {progress.done} of {progress.total or '?'}, {progress.per_second:.0f}/s, "
          f"{progress.seconds_left:.0f} s left", file=sys.stderr)


path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/common-licenses/GPL-3")
try:
    with Client() as quire, quire.summarize(path, on_progress=show) as summary:
        for event in summary:
            print(event.text, end="", flush=True)
        end = summary.finished
        print(f"\n[covered {end.covered_bytes} of {end.total_bytes} bytes in {end.sections} "
              f"sections]", file=sys.stderr)
except QuireError as error:
    sys.exit(f"summarize: {error}")
