"""``timeline``: runs and steps as bars over time."""

import shutil
from pathlib import Path

from initpipeline.core.facts import Pipeline
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.options import Subparsers, command
from initpipeline.plugin.session import Session
from initpipeline.plugin.views import timeline as view
from initpipeline.plugin.views.chart import chart
from initpipeline.plugin.views.svg import svg

_OUTPUTS = ("chart", "svg", "json", "yaml")
_PLAIN_COLUMNS = 100
"""Of what is no terminal, and has no $COLUMNS."""

_EXAMPLES = """\
  kubectl initpipeline timeline shop
  kubectl initpipeline timeline shop --output svg shop.svg
  kubectl initpipeline timeline shop -o svg > shop.svg
  COLUMNS=160 kubectl initpipeline timeline shop | less
"""

_DESCRIPTION = """\
The runs of an InitPipeline as bars over time, oldest first, and below them the steps of its current
run over the time that they took. A bar that would be too short to see is drawn as the shortest that
can be. Of earlier runs the status keeps no steps, only the one that failed."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "timeline",
        run,
        summary="runs and steps as bars over time, in the terminal or as SVG",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=_OUTPUTS,
        completes=["pipeline", "file"],
    )
    parser.add_argument("name", metavar="NAME", help="an InitPipeline")
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="where the SVG goes (default: standard output)"
    )


def run(session: Session) -> int:
    options = session.options
    if options.file is not None and options.output != "svg":
        raise PluginError(f"a file is for --output svg, not for {options.output}")
    pipeline = Pipeline.from_api(session.read(session.target(options.name)))
    pod = session.pod_of(pipeline)
    made = chart(pipeline, session.cluster.now(), pod)
    if session.for_a_program:
        session.show_data(made.data())
    elif options.output == "svg":
        _write(session, svg(made), options.file)
    else:
        session.out.print(view.text(made, _width(session), blocks=_has_blocks(session)))
    return 0


def _write(session: Session, picture: str, file: str | None) -> None:
    if file is None or file == "-":
        session.write_file(picture)
        return
    try:
        Path(file).write_text(picture, encoding="utf-8")
    except OSError as error:
        raise PluginError(f"{file}: {error.strerror}") from error
    session.note(f"written to {file}")


def _width(session: Session) -> int:
    if session.out.is_terminal:
        return session.out.width
    return shutil.get_terminal_size((_PLAIN_COLUMNS, 0)).columns


def _has_blocks(session: Session) -> bool:
    return session.out.encoding.lower().startswith("utf")
