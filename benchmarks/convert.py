"""Let the peers convert a model, each in its turn, in a process of its own that may crash.

``python convert.py MODEL CACHE PEER…`` is such a process; it prints a line for each that it has done.
"""

import subprocess
import sys
from pathlib import Path

import peers
from models import opened

HERE = Path(__file__).parent


def convert_all(name: str, cache: Path) -> dict[str, str]:
    """Convert for all peers; return the reason for each that cannot."""
    failed: dict[str, str] = {}
    waiting = list(peers.PEERS)
    while waiting:
        command = [sys.executable, str(HERE / "convert.py"), name, str(cache), *waiting]
        child = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        outcomes = [line.split(" ", 2) for line in child.stdout.splitlines() if line.startswith("outcome ")]
        for _, peer, why in outcomes:
            waiting.remove(peer)
            if why != "fine":
                failed[peer] = why
        if child.returncode:  # TensorFlow's converter, for one, dies of a recurrent layer in int8
            failed[waiting.pop(0)] = f"converting it ends the process with status {child.returncode}"
    return failed


def main() -> None:
    made = opened(sys.argv[1], Path(sys.argv[2]))
    for peer in sys.argv[3:]:
        try:
            peers.convert(peer, made)
            peers.load(peer, made.folder, 1).score(made.rows[:2])
            why = "fine"
        except Exception as error:  # of every kind; the page says which
            why = " ".join(str(error).split())[:200]
        print(f"\noutcome {peer} {why}", flush=True)


if __name__ == "__main__":
    main()
