"""Metadata of runs that are changed by hand: as damage, or as what was written otherwise."""

import json

from tensorstate import nodes
from tensorstate.nodes import CHECKSUM, with_checksum


def edit(document, change):
    """Change the attributes in a metadata file, and give them the checksum that fits."""
    metadata = json.loads(document.read_text())
    attributes = metadata["attributes"]
    change(attributes)
    if CHECKSUM in attributes:
        name = document.parent.name if "neurons" in attributes else ""
        metadata["attributes"] = with_checksum(name, attributes)
    document.write_text(json.dumps(metadata))


def set_attributes(node, **changes):
    """Change the attributes of a group or array, in any store, with a checksum that fits."""
    return nodes.update_attributes(node, changes)


def as_before_checksums(run):
    """Make a run on a disk what earlier versions wrote: without checksums and digests."""
    for document in run.rglob("zarr.json"):
        metadata = json.loads(document.read_text())
        attributes = metadata.get("attributes", {})
        for name in (CHECKSUM, "digests", "offsets_digests", "digest"):
            attributes.pop(name, None)
        for facts in ("tensorstate_histogram", "tensorstate_cache", "counted"):
            if isinstance(attributes.get(facts), dict):
                attributes[facts].pop("digests", None)
        if "tensorstate" in attributes:
            attributes["tensorstate"].pop("checksums", None)
        document.write_text(json.dumps(metadata))
