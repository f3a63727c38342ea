"""Implements ``timeline``, which draws runs and steps as bars over time."""

import shutil
from pathlib import Path
from typing import Final

from initpipeline.core.facts import Pipeline
from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.options import Subparsers, command, name_argument
from initpipeline.plugin.report.chart import chart
from initpipeline.plugin.session import Session
from initpipeline.plugin.terminal import is_unicode
from initpipeline.plugin.views import timeline as view
from initpipeline.plugin.views.svg import svg

_OUTPUTS: Final = ("chart", "svg", "json", "yaml")
_DEFAULT_COLUMNS: Final = 100
"""Width if the output is not a terminal and COLUMNS is not set."""

_EXAMPLES = """\
  # Draw the timeline in the terminal
  kubectl initpipeline timeline shop

  # Write it to an SVG file
  kubectl initpipeline timeline shop -o svg shop.svg

  # Draw it 160 columns wide, for a pager
  COLUMNS=160 kubectl initpipeline timeline shop | less
"""

_DESCRIPTION = """\
Draw the runs of an InitPipeline as bars over time, the oldest first, and the steps of the current
run on a time axis of their own. Each bar is at least one character wide. The steps of earlier runs
are not known: status.history records only the step that failed."""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "timeline",
        run,
        summary="Draw runs and steps as bars over time, as text or SVG",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=_OUTPUTS,
        completes=["pipeline", "file"],
    )
    name_argument(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="with -o svg: file to write (default: standard output)",
    )


def run(session: Session) -> int:
    options = session.options
    if options.file is not None and options.output != "svg":
        raise PluginError(f"FILE requires -o svg, and the output is {options.output}")
    pipeline = Pipeline.from_api(session.read(session.target(options.name)))
    pod = session.pod_of(pipeline)
    timeline = chart(pipeline, session.cluster.now(), pod)
    if session.wants_data:
        session.show_data(timeline.data())
    elif options.output == "svg":
        _write(session, svg(timeline), options.file)
    else:
        session.out.print(
            view.text(timeline, _width(session), blocks=is_unicode(session.out.encoding))
        )
    return 0


def _write(session: Session, document: str, file: str | None) -> None:
    if file is None or file == "-":
        session.write_file(document)
        return
    try:
        Path(file).write_text(document, encoding="utf-8")
    except OSError as error:
        raise PluginError(f"{file}: {error.strerror}") from error
    session.note(f"written to {file}")


def _width(session: Session) -> int:
    if session.out.is_terminal:
        return session.out.width
    return shutil.get_terminal_size((_DEFAULT_COLUMNS, 0)).columns
