"""Check a folder of your own music before training on it: songs with stems, or finished mixes.

    python -m data_recipes.own_music my_music/

decodes every file and says per song which stems are known, what will be repaired as it is read (lengths, sample rates)
and what is wrong with which file. It changes nothing; training reads the folder as it is (data.music=my_music/).
"""

import logging
from pathlib import Path

from data_recipes import layouts
from data_recipes.common import parser, run
from resonate.data import checks
from resonate.data.music import scan_music
from resonate.errors import UserError

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parser(__doc__)
    args.add_argument("folder", type=Path, help="folder of music")
    args.add_argument("--headers-only", action="store_true", help="do not decode every file")
    opts = args.parse_args(argv)
    kept, left = layouts.check(scan_music(opts.folder), not opts.headers_only)
    for song in kept:
        log.info("%s: %s, %.0f s, %s; licence %s", song.name, song.split, song.duration, checks.known(song),
                 song.licence)
    if left:
        raise UserError(f"{len(left)} of the songs in {opts.folder} cannot be used as they are; see above.")


if __name__ == "__main__":
    run(main)
