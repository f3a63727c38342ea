"""Mutate modules of the core, and compare the mutants that survive its unit tests with the list in
tests/mutation/survivors.toml. The exit code is 1 if a survivor is not in the list."""

import argparse
import sys
from tempfile import TemporaryDirectory

from tests.mutation.mutants import MODULES, MutationError, copy_tree, run, survivors
from tests.mutation.survivors import explained, render


def main(modules: list[str]) -> int:
    with TemporaryDirectory(prefix="initpipeline-mutants-") as directory:
        try:
            root = copy_tree(directory, modules)
            total = run(root)
            found = survivors(root)
        except MutationError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    reasons = {s: reason for s, reason in explained().items() if s.module in modules}
    new = found - reasons.keys()
    killed = reasons.keys() - found
    if new:
        print("\n# Not in tests/mutation/survivors.toml:\n")
        print(render(dict.fromkeys(new, "Open: not examined")))
    if killed:
        print(
            "\n# In tests/mutation/survivors.toml, but noticed by a test or without such a line:\n"
        )
        print(render({survivor: reasons[survivor] for survivor in killed}))
    print(f"{total} mutants: {len(found)} different ones survived, {len(new)} not in the list")
    if killed:
        print(f"{len(killed)} in the list no longer survive: remove them")
    return 1 if new else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("module", nargs="*", help=f"default: all. Modules: {', '.join(MODULES)}")
    chosen = parser.parse_args().module
    if unknown := sorted(set(chosen) - set(MODULES)):
        parser.error(f"unknown module {unknown[0]}, use one of: {', '.join(MODULES)}")
    sys.exit(main(chosen or list(MODULES)))
