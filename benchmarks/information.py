"""Accuracy and speed of the information estimators.

    python benchmarks/information.py acceptance          the promised accuracy of each estimator beside the measured one
    python benchmarks/information.py acceptance --only ksg copula
    python benchmarks/information.py peers               about 30 tasks against sklearn, ennemi and infomeasure
    python benchmarks/information.py peers --trained     neural estimators: ours and torch_mist (slow)
    python benchmarks/information.py high                25 and 50 columns per side
    python benchmarks/information.py spatial             4800 pairs of 32x32 maps, compared with a loop over sklearn
    python benchmarks/information.py coverage            how often 95 % intervals contain the true value
    python benchmarks/information.py coverage --seeds 20 the same in minutes
    python benchmarks/information.py auto                the default on the 40 tasks of "Beyond normal", and beyond them
    python benchmarks/information.py mixed               mixtures, labels, ties, zeros of a ReLU and idle columns
    python benchmarks/information.py layers              layers whose information about labels is known

Numbers are means over seeds 0, 1, ... (auto, mixed: 300, 301, ...); no setting was tuned on them.
"""

from __future__ import annotations

import argparse
import time
import warnings

import information_acceptance
import information_comparison
import information_coverage
import information_layers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", choices=("acceptance", "peers", "high", "spatial", "coverage", "auto", "mixed", "layers")
    )
    parser.add_argument(
        "--only",
        nargs="*",
        default=None,
        help="parts of acceptance (ksg copula) or estimators of coverage (KSG 'corrected KSG' channels)",
    )
    parser.add_argument(
        "--seeds", type=int, default=None, help="number of seeds (each part has its own default)"
    )
    parser.add_argument(
        "--samples", type=int, default=2000, help="samples per task in peers and auto (default 2000)"
    )
    parser.add_argument("--trained", action="store_true", help="neural estimators instead of the others")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    start = time.perf_counter()
    if arguments.part == "acceptance":
        information_acceptance.print_table(arguments.only, arguments.seeds)
    elif arguments.part == "peers":
        information_comparison.print_tasks(arguments.samples, arguments.seeds or 3, trained=arguments.trained)
    elif arguments.part == "high":
        information_comparison.print_high(arguments.seeds or 3)
    elif arguments.part == "spatial":
        information_comparison.print_spatial()
    elif arguments.part == "auto":
        information_comparison.print_auto(arguments.samples, arguments.seeds or 2)
    elif arguments.part == "mixed":
        information_comparison.print_mixed(arguments.samples, arguments.seeds or 4)
    elif arguments.part == "layers":
        information_layers.print_layers(arguments.seeds or 3)
    else:
        information_coverage.print_coverage(arguments.seeds or 200, arguments.only)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
