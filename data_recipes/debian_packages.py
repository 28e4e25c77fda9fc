"""Debian packages of free games whose music the recipe `debian_music` takes: where it lies, and what is known of it."""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Package:
    """Where a package's music lies.

    Attributes:
        tops: folders with music, below `prefix`.
        prefix: where the package installs its data.
        source_prefix: stands before the path below `prefix` in the patterns of debian/copyright.
        holder: the artist, where the copyright file names one for everything in free text.
        archive: a zip file in the package that holds the music; its files lie where it lies. "" where there is none.
        instrumental: patterns of titles that are known to have no vocals. Nothing else is assumed to be without: a song
            wrongly called instrumental would teach a separator to leave a voice where it is.
        gpl: whether its music, or most of it, is under the GPL: it is taken only where it is named and allowed, since
            weights to be shipped must not hear it.
    """

    tops: tuple[str, ...]
    prefix: str
    source_prefix: str = ""
    holder: str = ""
    archive: str = ""
    instrumental: tuple[str, ...] = ()
    gpl: bool = False

    def silent(self, title: str) -> str:
        """Column `silent` of a song: "vocals" for an instrumental."""
        return "vocals" if any(fnmatchcase(title, pattern) for pattern in self.instrumental) else ""


PACKAGES: dict[str, Package] = {
    "marsshooter-data": Package(("audio",), "usr/share/games/marsshooter/", "data/"),
    "singularity-music": Package(("music",), "usr/share/games/singularity/", holder="Max McCracken",
                                 instrumental=("*",)),
    "hyperrogue-music": Package(("music",), "usr/share/hyperrogue/", instrumental=("hr3-*",)),
    "fretsonfire-songs-muldjord": Package(("data/songs",), "usr/share/games/fretsonfire/",
                                          holder="El Senator (Muldjord)"),
    "unknown-horizons": Package(("content/audio/music",), "usr/share/unknown-horizons/", instrumental=("*",)),
    "supertuxkart-data": Package(("data/music", "data/tracks"), "usr/share/games/supertuxkart/"),
    "0ad-data": Package(("audio/music",), "usr/share/games/0ad/mods/public/", "binaries/data/mods/public/",
                        archive="usr/share/games/0ad/mods/public/public.zip"),
    "flare-game": Package(("mods/fantasycore/music",), "usr/share/games/flare/"),
    "megaglest-data": Package(("data/core/menu/music", "techs"), "usr/share/games/megaglest/"),
    "naev-data": Package(("dat/snd/music",), "usr/share/naev/"),
    "ufoai-music": Package(("music",), "usr/share/games/ufoai/base/", "base/",
                           archive="usr/share/games/ufoai/base/0music.pk3"),
    "redeclipse-data": Package(("data/sounds/music",), "usr/share/games/redeclipse/"),
    "hedgewars-data": Package(("Data/Music",), "usr/share/games/hedgewars/", "share/hedgewars/", gpl=True),
    "nexuiz-music": Package(("sound/cdtracks",), "usr/share/games/nexuiz/data/", holder="Alientrap",
                            archive="usr/share/games/nexuiz/data/music.pk3", gpl=True),
    "supertux-data": Package(("music",), "usr/share/games/supertux2/", "data/", gpl=True),
    "warzone2100-music": Package(("music",), "usr/share/games/warzone2100/", "data/", gpl=True),
    "wesnoth-1.16-music": Package(("data/core/music",), "usr/share/games/wesnoth/1.16/",
                                  holder="Battle for Wesnoth contributors", gpl=True),
    "widelands-data": Package(("data/music",), "usr/share/games/widelands/", gpl=True),
}
