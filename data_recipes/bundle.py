"""Build what the repo carries: the starter bank and the bundled recording.

    python -m data_recipes.bundle bank --source MIRROR --debs DOWNLOADS      -> resonate/bank/
    python -m data_recipes.bundle demo --music data/starter/music            -> assets/demo/
"""

from pathlib import Path

from data_recipes import bundle_bank, bundle_demo
from data_recipes.common import parser, run
from data_recipes.fetch import Fetcher

ROOT = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = parser(__doc__)
    args.add_argument("what", choices=["bank", "demo"], help="what to build")
    args.add_argument("--source", type=Path, help="bank: local mirror of the files of sources.tsv")
    args.add_argument("--debs", type=Path, help="bank: folder of .deb files, for machines without apt-get")
    args.add_argument("--cache", type=Path, default=Path("data/cache"), help="bank: where downloads are kept")
    args.add_argument("--music", type=Path, default=Path("data/starter/music"), help="demo: the starter music")
    args.add_argument("--out", type=Path, help="where to write (default: resonate/bank or assets)")
    opts = args.parse_args(argv)
    if opts.what == "bank":
        fetcher = Fetcher(opts.source, opts.cache, opts.debs)
        bundle_bank.build(fetcher, opts.debs, opts.cache, opts.out or ROOT / "resonate" / "bank")
    else:
        bundle_demo.build(opts.music, ROOT / "resonate" / "bank", opts.out or ROOT / "assets")


if __name__ == "__main__":
    run(main)
