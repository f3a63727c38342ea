"""Implements ``wrap``, which converts the manifest of a workload to an InitPipeline."""

from initpipeline.plugin.errors import PluginError
from initpipeline.plugin.manifests import ManifestError
from initpipeline.plugin.options import Subparsers, command
from initpipeline.plugin.session import Session
from initpipeline.plugin.terminal import read_text
from initpipeline.plugin.wrap.convert import convert
from initpipeline.plugin.wrap.rules import CannotWrapError
from initpipeline.plugin.wrap.workloads import KINDS, WrapOptions

_EXAMPLES = """\
  # Convert a Deployment and create the InitPipeline
  kubectl initpipeline wrap deployment.yaml | kubectl apply -f -

  # Convert a Deployment that is in the cluster
  kubectl get deployment shop -o yaml | kubectl initpipeline wrap - | kubectl apply -f -

  # Convert the workloads of a Helm chart
  helm template shop ./chart | kubectl initpipeline wrap - > shop.yaml

  # Convert a Pod, and make its container "migrate" the last init container
  kubectl initpipeline wrap pod.yaml --init-container migrate
"""

_DESCRIPTION = f"""\
Print an InitPipeline for each {", ".join(KINDS[:-1])} or {KINDS[-1]} of a file in
YAML or JSON. The Pod template is copied. Notes on stderr list each change, each difference in
behaviour, and what to do. Other objects of the file are printed unchanged, so that the whole
output can be applied. wrap does not connect to a cluster.

Comments in the YAML of a workload are lost. If no object can be converted, nothing is printed."""

_CODES = """\
exit codes:
  0    success
  1    the file cannot be read, or contains no workload that can be converted
  2    invalid usage
"""


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "wrap",
        run,
        summary="Convert the manifest of a workload to an InitPipeline",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        completes=["file"],
        codes=_CODES,
        all_namespaces=False,
        connects=False,
    )
    parser.add_argument("file", metavar="FILE", help="manifest file; - for standard input")
    parser.add_argument(
        "--name", metavar="NAME", help="name of the InitPipeline (default: the workload's)"
    )
    parser.add_argument(
        "--init-container",
        metavar="NAME",
        help="app container that becomes the last init container",
    )


def run(session: Session) -> int:
    arguments = session.options
    options = WrapOptions(
        name=arguments.name, init_container=arguments.init_container, namespace=arguments.namespace
    )
    try:
        conversion = convert(read_text(arguments.file), options)
    except CannotWrapError as error:
        raise PluginError(str(error)) from error
    except (ManifestError, UnicodeDecodeError, OSError, RecursionError) as error:
        message = getattr(error, "strerror", None) or str(error)
        raise PluginError(f"{arguments.file}: {message}") from error
    session.write_file(conversion.text)
    for remark in conversion.remarks:
        session.note(remark.title)
        for note in remark.notes:
            session.note(f"  - {note}")
    return 0
