"""Damage to one of several files, drawn by hypothesis."""

import os

from hypothesis import strategies as st

KINDS = ["flipped", "cut", "longer", "zeros", "emptied", "lost", "moved", "swapped", "of another"]


def harm(files, others, kind, draw):
    """Damage a file, as a disk, a file system or somebody who cleans up may do.

    Parameters
    ----------
    files : sequence of Path
        One of them is damaged; two, if they are swapped.
    others : sequence of Path
        Files of another whole, one of which may take its place.
    kind : str
        One of `KINDS`.
    draw : callable
        Draws from a strategy.
    """
    path = files[draw(st.integers(0, len(files) - 1))]
    content = path.read_bytes()
    # Half of the time the beginning, where all the rest is told.
    end = max(min(len(content), draw(st.sampled_from([64, 4096 + 512, 1 << 30]))) - 1, 0)
    place, stop = sorted(draw(st.integers(0, end)) for _ in range(2))
    if kind == "flipped":
        flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in content[place : place + 1])
        path.write_bytes(content[:place] + flipped + content[place + 1 :])
    elif kind == "cut":
        os.truncate(path, place)
    elif kind == "longer":
        path.write_bytes(content[:place] + bytes(8) + content[place:])
    elif kind == "zeros":
        path.write_bytes(content[:place] + bytes(stop - place) + content[stop:])
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "lost":
        path.unlink()
    elif kind == "moved":
        path.write_bytes(content[:place] + content[stop:] + content[place:stop])
    else:
        among = files if kind == "swapped" else others
        source = among[draw(st.integers(0, len(among) - 1))]
        found = source.read_bytes()
        if kind == "swapped":
            source.write_bytes(content)
        path.write_bytes(found)
