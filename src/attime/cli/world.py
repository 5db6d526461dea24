"""`attime world`: render a procedural world into a film with sound, and its whole truth into a JSON file beside it."""

import argparse
import json
import sys
from pathlib import Path

from attime.errors import AttimeError
from attime.streams.film import write_film
from attime.streams.world import World
from attime.streams.world.sound import sound
from attime.streams.world.truth import annotation

__all__ = ["world"]

RATE = 16_000


def world(options: argparse.Namespace) -> int:
    """Write the film and the annotation; print what they hold."""
    made = World(
        seed=options.seed,
        seconds=options.seconds,
        shot_s=options.shot,
        things=tuple(options.things),
        events=tuple(options.events),
        speed=options.speed,
        redundancy=options.redundancy,
        clutter=options.clutter,
        noise=options.noise,
        needle_s=options.needle,
    )
    path = Path(options.out)
    if options.size < 16 or options.size % 2:
        raise AttimeError(f"--size needs an even number of pixels from 16 on; got {options.size}.")
    size = (options.size, options.size)
    frames = (frame for chunk, _ in made.frames(fps=options.fps, size=size) for frame in chunk)
    samples = None if options.silent else (samples for samples, _ in sound(made, rate=RATE))
    write_film(path, frames, fps=options.fps, sound=samples, rate=RATE)
    truth = path.with_suffix(".json")
    told = annotation(made)
    truth.write_text(json.dumps(told, indent=1) + "\n")
    if options.json:
        print(json.dumps({"film": str(path), "truth": str(truth), "world": told["world"]}))
        return 0
    shots = told["shots"]
    counts = {name: sum(len(shot[name]) for shot in shots) for name in ("events", "captions", "questions")}
    print(f"{path}: {made.about}, {options.size}x{options.size} at {options.fps:g} frames a second")
    print(f"{truth}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    for caption in shots[0]["captions"][:5]:
        print(f"  {caption['start_s']:6.2f} s  {caption['text']}")
    sys.stdout.flush()
    return 0
