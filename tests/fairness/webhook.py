"""An admission webhook that is slow for the Pods of one namespace."""

import asyncio
import base64
import json
import ssl
from ipaddress import IPv4Address
from typing import Any, Final

from aiohttp import web

from tests.bench.connection import Connection
from tests.cluster.certificates import Authority
from tests.cluster.cluster import Cluster

PATH: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


async def slow_webhook(
    cluster: Cluster,
    connection: Connection,
    namespace: str,
    seconds: float,
    tasks: list[asyncio.Task[None]],
) -> None:
    """Serve the webhook until the task, which is added to ``tasks``, is cancelled."""
    authority = Authority(cluster.layout.pki)
    pair = authority.server("webhook", [IPv4Address("127.0.0.1")])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    runner = web.AppRunner(application(seconds))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    trusted = authority.pair.certificate.read_bytes()
    body = json.dumps(configuration(namespace, port, trusted)).encode()
    await connection.create(PATH, body)
    await asyncio.sleep(2)  # The API server watches configurations.

    async def serve() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await connection.delete(f"{PATH}/slow", {})
            await runner.cleanup()

    tasks.append(asyncio.create_task(serve()))


def application(seconds: float) -> web.Application:
    async def allow(request: web.Request) -> web.Response:
        review = await request.json()
        await asyncio.sleep(seconds)
        answer = {"uid": review["request"]["uid"], "allowed": True}
        kind = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
        return web.json_response({**kind, "response": answer})

    served = web.Application()
    served.router.add_post("/", allow)
    return served


def configuration(namespace: str, port: int, authority: bytes) -> dict[str, Any]:
    hook = {
        "name": "slow.example.com",
        "clientConfig": {
            "url": f"https://127.0.0.1:{port}/",
            "caBundle": base64.b64encode(authority).decode(),
        },
        "rules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 15,
    }
    return {"metadata": {"name": "slow"}, "webhooks": [hook]}
