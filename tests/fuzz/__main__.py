"""`python -m tests.fuzz MINUTES`: the reader against accidents, and against atheris where that is installed.

A second word `accidents` leaves atheris out.

Prints what it tried; a failing input is written to `fuzz-failure.yaml`, and the exit code is 1.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.inputs import FILES, accident, check, signs

FAILURE = Path("fuzz-failure.yaml")


def by_accident(seconds: float) -> int:
    """Try random inputs for so long; return how many there were."""
    end, tried = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rng = random.Random(random.getrandbits(64))
        try_one(accident(rng) if rng.random() < 0.7 else signs(rng))
        tried += 1
    return tried


def try_one(data: bytes) -> None:
    """Check one input; keep it if it fails."""
    begun = time.process_time()
    try:
        check(data, in_service=len(data) % 2 == 0)
        assert time.process_time() - begun < 5, "slow"
    except BaseException:
        FAILURE.write_bytes(data)
        raise


def by_coverage(seconds: float) -> None:
    """Let atheris look for inputs that reach new code; it ends the process."""
    import atheris

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(FILES):
            (Path(folder) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], folder, f"-max_total_time={int(seconds)}", "-max_len=4000"], try_one)
        atheris.Fuzz()


def main() -> None:
    """Spend the minutes on both, half and half."""
    seconds = float(sys.argv[1]) * 60 if len(sys.argv) > 1 else 600.0
    has_atheris = find_spec("atheris") is not None and "accidents" not in sys.argv
    tried = by_accident(seconds / 2 if has_atheris else seconds)
    print(f"{tried} inputs: each gave a document or a readable ConfigError, alike with both parsers")
    if has_atheris:
        by_coverage(seconds / 2)


if __name__ == "__main__":
    main()
