"""Listing a folder that `bicompile synthesize` wrote."""

import json
from pathlib import Path
from typing import Any

from bicompile.errors import UserError
from bicompile.training.sample import LIST_OF_SPLIT, SPLITS, Listing, Sample

MANIFEST = "manifest.json"


def list_synthesized(folder: Path) -> Listing:
    """List the clips that the manifest names, with the engine and voice that spoke them.

    One silence to eleven words; a third of them are zeros, the others pieces of noise. Training
    has the first half of each noise file, validation and test the second half. Raises UserError
    for a damaged manifest, lists that do not fit it, and clips that are not there.
    """
    manifest = _read_manifest(folder)
    clips = []
    for entry in manifest["speakers"]:
        facts = (entry["split"], entry["engine"], entry["voice"])
        clips += [Sample(folder / name, name.split("/")[0], *facts) for name in entry["files"]]
    missing = [clip.path for clip in clips if not clip.path.is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of the {len(clips)} clips that it lists, the first "
            f"is {missing[0]}; make it again with: bicompile synthesize"
        )
    origin = {name: manifest.get(name) for name in ("format", "version", "seed", "engines")}
    return Listing(clips, origin, silence_share=1 / 11, quiet_share=0.3, noise_share=0.5)


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        entries = manifest["speakers"]
        for entry in entries:
            if entry["split"] not in SPLITS or not entry["engine"] or not entry["files"]:
                raise ValueError("an incomplete entry")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); make the corpus again") from None
    for split, name in LIST_OF_SPLIT.items():
        listed = set((folder / name).read_text().split()) if (folder / name).exists() else set()
        told = {file for entry in entries if entry["split"] == split for file in entry["files"]}
        if listed != told:
            raise UserError(f"{folder / name} does not fit manifest.json; make the corpus again")
    return manifest
