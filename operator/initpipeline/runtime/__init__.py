"""The controller: watches, cache, work queue and requests. It calls ``core`` for every decision.

Reading order:

1. Start. ``main``: the command line. ``settings``, ``logs``. ``operator``: runs under Kopf.
   ``preflight``: the CRD and the permissions. ``share``: the parts that reconcile, and their tasks.
   ``leading``: one replica reconciles. ``leader``: the election of that replica. ``crd_check``:
   compares the CRD with the operator.
2. From a watch event to a key. ``handlers``: Kopf's events of InitPipelines. ``kopf_guard``: keeps
   Kopf's watch running through faults. ``pod_watch``: events of Pods. ``cache``: the newest known
   objects. ``queue``: the keys to reconcile.
3. From a key to a write. ``workers``: take a key, retry. ``reconcile``: read the facts, decide,
   write status, act. ``creations``: delays repeated creations of a Pod.
   ``failures``: counts requests that fail again and again.
4. Requests. ``gateway``: one method per request. ``client``: connection and credentials.
   ``responses``: parses what the API server sends. ``retries``: delays, and repeated watches.
   ``keys``: namespace and name. ``errors``: the exceptions. ``lean_imports``: imports of Kopf and
   the official client.
5. Beside the reconcile. ``clock``: the time, without jumps of the wall clock. ``probes``: answers
   the kubelet. ``meter``: what is measured. ``metrics``: records it. ``state_metrics``: those
   read at each scrape. ``metric_labels``: the values of labels. ``http_server``: serves probes
   and metrics. ``events``: posts Events. ``run_logs``: logs what happens in runs.
   ``tracer``: what is reported to traces. ``trace_export``: exports them.
   ``fair_buffer``: the events that wait, by namespace. ``sweep``: finds deletions that a watch
   missed. ``unlabelled_pods``: watches Pods without the operator's label. ``unreadable_objects``:
   logs objects that cannot be read.
6. Only with ``--shards``. ``sharing``: several replicas reconcile. ``buckets``: the shard of an
   object, and the owner of a shard. ``members``: the live replicas. ``selection``: the objects of
   Kopf's watch.
"""
