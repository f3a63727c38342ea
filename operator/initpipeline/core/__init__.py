"""Pure decisions: facts in, a decision out. No framework, no client, no clock, no memory.

Reading order:

1. What the API reports. ``facts``: the input of a decision, with the InitPipeline. ``pod``,
   ``containers``, ``container_status``: the Pod. ``lenient``: reads fields that may be malformed.
   ``errors``: the error for objects that cannot be read. ``kubelet_reasons``: reasons that the
   kubelet sets. ``resources``, ``quantity``: the Pod's effective requests and limits.
   ``template``: hash of the Pod template. ``template_changes``: fields in which two differ.
   ``template_annotation``: the copy on the Pod.
2. What the Pod's status shows about a run. ``pod_steps``: which steps are done.
   ``pod_restarts``: restarts by the kubelet, of app containers, in place. ``pod_end``: completed,
   failed or lost; stuck. ``observation``: all of that, derived once per decision.
   ``pod_ownership``: whose Pod it is.
3. Why something is as it is. ``failures``: how a container failed, and the evidence of it.
   ``explanations``: reason and message.
4. Runs. ``run_limits``: when a run exceeds initDeadlineSeconds, timeoutSeconds or maxRestarts.
   ``runs``: how a run begins, follows its Pod and ends. ``in_place``: in-place re-runs.
   ``rates``: how often something may happen. ``triggers``: when the next run starts, and why.
5. What is reported. ``status``: the whole status. ``conditions``. ``mirror``: the copy of the init
   container statuses. ``status_size``: what is left out of a large status. What changed between two
   statuses: ``run_changes``; Events, log lines and spans of it: ``run_events``, ``run_log``,
   ``spans``, with the IDs of ``run_ids``. ``log_tails``: keeps termination messages out of all of
   that. ``skew``: how the CRD differs from the models, and what the API server did not store.
6. What is done. ``admission``: refusals of a Pod. ``podspec``: the Pod's manifest. ``decide``: the
   decision. ``unreadable``: what is reported of an InitPipeline that cannot be read.
7. Tools. ``encoding``: JSON. ``evolve``: changed copies of models. ``compact``: objects that take
   up less memory. ``patch``: merge patches. ``text``: texts of limited size, safe on a terminal.

Modules in which each field of the spec takes effect. The defaults are those of
``api.models.Policies``. The CRD's schema is generated from it.

- ``template``: ``podspec``, and ``triggers`` if it changes.
- ``rerunPolicy``: ``triggers`` (_pod_lost, _container_restarted), ``in_place.wanted``, and
  ``runs._progressed``, which records restart counts. Reported in ``status._given_up``.
- ``rerunStrategy``: ``in_place``.
- ``backoffLimit``: ``triggers._retry``; reported in ``status._given_up``.
- ``initDeadlineSeconds``, ``initPolicies``: ``run_limits``; validated in ``admission``.
- ``suspend``: ``decide._current_run``, ``decide._suspend``, ``triggers._resumed``,
  ``status.suspended``, and ``facts._known_hash``: while suspended, status has the hash of the last
  run.
- ``runHistoryLimit``: ``decide.decide``.
- ``logTails``: ``log_tails``, before anything is decided, and ``podspec``.
- ``ttlSecondsAfterFinished``: ``decide._at_rest``.
"""
