"""``wrap``: an InitPipeline of a workload, so that it moves over in one command."""

from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.manifests import ManifestError
from initpipeline.plugin.options import Subparsers, command
from initpipeline.plugin.session import Session
from initpipeline.plugin.terminal import read_text
from initpipeline.plugin.wrap.convert import convert
from initpipeline.plugin.wrap.rules import CannotWrapError
from initpipeline.plugin.wrap.workloads import KINDS, WrapOptions

_EXAMPLES = """\
  kubectl initpipeline wrap deployment.yaml | kubectl apply -f -
  kubectl get deployment shop -o yaml | kubectl initpipeline wrap - | kubectl apply -f -
  helm template shop ./chart | kubectl initpipeline wrap - > shop.yaml
  kubectl initpipeline wrap pod.yaml --init-container migrate
"""

_DESCRIPTION = f"""\
Print an InitPipeline for each {", ".join(KINDS[:-1])} or {KINDS[-1]} of a file in
YAML or JSON. The Pod template is carried over verbatim. Notes on stderr name each field that has no
place in an InitPipeline, what behaves differently afterwards, and what to do. Other objects of the
file are printed unchanged, in their places, so that the output can be applied as a whole. wrap does
not connect to a cluster.

Comments in the YAML of a workload are lost. If nothing can be wrapped, nothing is printed."""

_CODES = """\
exit codes:
  0    printed
  1    there is no such file, or nothing in it can be wrapped
  2    the command line is not understood
"""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "wrap",
        run,
        summary="make an InitPipeline of a workload's manifest",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        completes=["file"],
        codes=_CODES,
    )
    parser.add_argument("file", metavar="FILE", help="the manifests; - for standard input")
    parser.add_argument(
        "--name", metavar="NAME", help="name of the InitPipeline (default: the workload's)"
    )
    parser.add_argument(
        "--init-container",
        metavar="NAME",
        help="make this one of the Pod's containers the last of its init containers",
    )


def run(session: Session) -> int:
    given = session.options
    options = WrapOptions(
        name=given.name, init_container=given.init_container, namespace=given.namespace
    )
    try:
        conversion = convert(read_text(given.file), options)
    except CannotWrapError as error:
        raise PluginError(str(error)) from error
    except (ManifestError, UnicodeDecodeError, OSError, RecursionError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise PluginError(f"{given.file}: {words}") from error
    session.write_file(conversion.text)
    for remark in conversion.remarks:
        session.note(remark.title)
        for note in remark.notes:
            session.note(f"  - {note}")
    return 0
