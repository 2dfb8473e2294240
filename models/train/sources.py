"""Sound files of Debian packages: which packages, how to fetch them, and how to find the sounds inside.

Packages are unpacked, not installed. All are from Debian's section `main`, so every licence is free by
Debian's guidelines; the licence itself is in each package's copyright file.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".wav", ".ogg", ".oga", ".flac", ".mp3", ".aif", ".aiff", ".au", ".opus")
_ARCHIVES = (".zip", ".pk3", ".wz")
_CONTAINERS = (".cat", ".rcc")

PACKAGES: dict[str, dict[str, int]] = {
    "voices": {
        "asterisk-core-sounds-en-wav": 250,
        "asterisk-core-sounds-es-wav": 250,
        "asterisk-core-sounds-fr-wav": 250,
        "asterisk-core-sounds-ru-wav": 250,
        "klettres-data": 300,
        "ktuberling-data": 400,
        "hedgewars-data": 400,
        "tuxmath-data": 16,
    },
    "music": {
        "fretsonfire-songs-sectoid": 8,
        "openclonk-data": 10,
        "singularity-music": 16,
        "supertux-data": 140,
        "warzone2100-music": 30,
        "wesnoth-1.16-music": 45,
        "widelands-data": 150,
        "naev-data": 100,
        "lmms-common": 240,
        "hydrogen-drumkits": 400,
        "sonic-pi-samples": 170,
        "frozen-bubble-data": 21,
        "trigger-rally-data": 30,
        "teeworlds-data": 60,
        "flare-game": 130,
        "lordsawar-data": 7,
        "planetblupi-music-ogg": 10,
        "supercollider-common": 1,
        "xmoto-data": 7,
        "zaz-data": 17,
    },
    "effects": {
        "0ad-data": 1100,
        "brainparty-data": 30,
        "btanks-data": 80,
        "colobot-common-sounds": 105,
        "deepin-sound-theme": 21,
        "endless-sky-data": 90,
        "extremetuxracer-data": 20,
        "flightgear-data-base": 160,
        "gnome-control-center-data": 4,
        "hydrogen-drumkits-effects": 300,
        "jami-daemon": 11,
        "kbounce": 6,
        "lincity-ng-data": 150,
        "linphone-common": 6,
        "lomiri-sounds": 45,
        "megaglest-data": 800,
        "minetest-data": 110,
        "monsterz-data": 10,
        "openarena-data": 500,
        "openttd-opensfx": 120,
        "oxygen-sounds": 50,
        "pidgin-data": 5,
        "pysiogame": 16,
        "redeclipse-data": 330,
        "scratch": 114,
        "searchandrescue-data": 62,
        "simutrans-pak64": 24,
        "sound-theme-freedesktop": 27,
        "supertuxkart-data": 125,
        "torcs-data": 50,
        "tuxpaint-stamps-default": 900,
        "tuxtype-data": 22,
        "ufoai-sound": 400,
        "unknown-horizons": 50,
        "warmux-data": 135,
        "wesnoth-1.16-data": 300,
        "alienblaster-data": 9,
        "boswars-data": 121,
        "cube2-data": 69,
        "freedroidrpg-data": 188,
        "manaplus-data": 19,
        "pink-pony-data": 3,
        "plee-the-bear-data": 57,
        "psi-plus-sounds": 16,
        "scorched3d-data": 125,
        "wordwarvi-sound": 61,
    },
}
"""Packages to train on, by kind, with the maximum number of sounds to take from each."""

HELD_OUT: dict[str, dict[str, int]] = {
    "animals, instruments": {"gcompris-qt-data": 200},
    "music": {"asterisk-moh-opsound-wav": 5, "hyperrogue-music": 40},
    "voices": {"asterisk-core-sounds-it-wav": 60, "gcin-voice": 40, "fillets-ng-data": 60},
    "objects, games": {
        "bucklespring-data": 30,
        "crrcsim-data": 32,
        "freedink-data": 27,
        "heroes-sound-effects": 33,
        "lugaru-data": 71,
        "pingus-data": 11,
        "sound-icons": 32,
        "trackballs-data": 34,
    },
}
"""Packages whose sounds are not used for training: the student is measured on them."""

SOUNDFONT = "fluid-soundfont-gm"
"""The Debian package whose instruments play the generated music."""

ALL = [SOUNDFONT, *(name for side in (PACKAGES, HELD_OUT) for group in side.values() for name in group)]
FEW = [SOUNDFONT, "klettres-data", "frozen-bubble-data", "kbounce", "sound-icons"]
"""Small packages of each kind, for a trial run of every step."""


def fetch(folder: Path, names: list[str]) -> None:
    """Download and unpack the packages that are not in `folder` yet; keep only sounds and copyright files."""
    debs = folder / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    for name in names:
        target = folder / name
        if target.is_dir():
            continue
        done = subprocess.run(["apt-get", "download", name], cwd=debs, capture_output=True, text=True)
        found = sorted(debs.glob(f"{name}_*.deb"))
        if done.returncode or not found:
            print(f"{name}: download failed, left out: {done.stderr.strip()[-200:]}", file=sys.stderr)
            continue
        subprocess.run(["dpkg", "-x", found[-1], target], check=True)
        found[-1].unlink()
        for path in target.rglob("*"):
            kept = (*SUFFIXES, *_ARCHIVES, *_CONTAINERS, ".sf2")
            keep = path.suffix.lower() in kept or path.name == "copyright"
            if path.is_file() and not keep:
                path.unlink()


def sounds(package: Path) -> Iterator[tuple[str, Path | bytes]]:
    """Yield name and content (or path) of every sound of an unpacked package, in a fixed order, archives included."""
    for path in sorted(package.rglob("*")):
        if not path.is_file():
            continue
        name, suffix = str(path.relative_to(package)), path.suffix.lower()
        if suffix in SUFFIXES:
            yield name, path
        elif suffix in _ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                for member in sorted(archive.namelist()):
                    if member.lower().endswith(SUFFIXES):
                        yield f"{name}/{member}", archive.read(member)
        elif suffix in _CONTAINERS:
            for i, sound in enumerate(_carve(path.read_bytes())):
                yield f"{name}/{i}", sound


def _carve(data: bytes) -> Iterator[bytes]:
    """Yield the WAV and Ogg files embedded uncompressed in a container of unknown format."""
    for match in re.finditer(b"RIFF(....)WAVE", data, re.DOTALL):
        size = int.from_bytes(match[1], "little") + 8
        yield data[match.start() : match.start() + size]
    for match in re.finditer(b"OggS\x00\x02", data):
        end = match.start()
        while data[end : end + 4] == b"OggS":
            last = data[end + 5] & 4
            segments = data[end + 27 : end + 27 + data[end + 26]]
            end += 27 + len(segments) + sum(segments)
            if last:
                break
        yield data[match.start() : end]


def licences(package: Path) -> list[str]:
    """Return the short names of the licences in a package's copyright file, most frequent first."""
    counts: dict[str, int] = {}
    for path in package.glob("usr/share/doc/*/copyright"):
        for line in io.StringIO(path.read_text(errors="replace")):
            if line.startswith("License:") and (name := line.removeprefix("License:").strip()):
                counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def version(package: str) -> str:
    """Return the version of a Debian package in this machine's package lists, or "?"."""
    done = subprocess.run(["apt-cache", "show", "--no-all-versions", package], capture_output=True, text=True)
    found = re.search(r"^Version: (\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else "?"
