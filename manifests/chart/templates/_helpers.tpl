{{/* Labels that select the operator's Pods. They are those of manifests/base. */}}
{{- define "initpipeline.selector" -}}
app.kubernetes.io/component: operator
app.kubernetes.io/name: initpipeline
{{- end }}

{{/* Labels of each object. */}}
{{- define "initpipeline.labels" -}}
{{ include "initpipeline.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end }}

{{- define "initpipeline.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The bytes of a Kubernetes quantity, as an expression of PromQL. */}}
{{- define "initpipeline.bytes" -}}
{{- $number := regexFind "^[0-9.]+([eE][+-]?[0-9]+)?" . -}}
{{- $unit := trimPrefix $number . -}}
{{- $powers := dict "m" -1 "k" 1 "M" 2 "G" 3 "T" 4 "P" 5 "E" 6 "Ki" 1 "Mi" 2 "Gi" 3 "Ti" 4 "Pi" 5 "Ei" 6 -}}
{{- $number -}}
{{- if $unit -}}
{{- $power := get $powers $unit | required (printf "resources.limits.memory is %s, which is not a quantity" .) -}}
{{- printf " * %s^%v" (ternary "1024" "1000" (hasSuffix "i" $unit)) $power -}}
{{- end -}}
{{- end }}

{{/* Fails if values contradict each other. */}}
{{- define "initpipeline.check" -}}
{{- with .Values.metrics -}}
{{- if and (not .enabled) (or .serviceMonitor.enabled .podMonitor.enabled) -}}
{{- fail "metrics.serviceMonitor and metrics.podMonitor require metrics.enabled: true" -}}
{{- end -}}
{{- if and .serviceMonitor.enabled .podMonitor.enabled -}}
{{- fail "enable metrics.serviceMonitor or metrics.podMonitor, not both: each sample would be stored twice" -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- if or (hasPrefix "--namespace" .) (hasPrefix "--shards" .) (hasPrefix "--lease-name" .) (hasPrefix "--probe-address" .) (hasPrefix "--metrics-address" .) -}}
{{- fail (printf "extraArgs has %s, which the chart sets itself: use the values namespaces, shards and metrics" .) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Adapts the Deployment of manifests/base. */}}
{{- define "initpipeline.deployment" -}}
{{- $root := .root -}}
{{- $object := .object -}}
{{- $values := $root.Values -}}
{{- $selector := include "initpipeline.selector" $root | fromYaml -}}
{{- $spec := $object.spec -}}
{{- $pod := $spec.template.spec -}}
{{- $container := index $pod.containers 0 -}}
{{- $_ := set $spec "replicas" (int $values.replicas) -}}
{{- $_ := set $spec "selector" (dict "matchLabels" $selector) -}}
{{- $template := dict "labels" (mustMerge (deepCopy $selector) $values.podLabels) -}}
{{- with $values.podAnnotations }}{{ $_ := set $template "annotations" . }}{{ end -}}
{{- $_ := set $spec.template "metadata" $template -}}
{{- $_ := set $container "image" (include "initpipeline.image" $root) -}}
{{- with $values.image.pullPolicy }}{{ $_ := set $container "imagePullPolicy" . }}{{ end -}}
{{- $_ := set $container "resources" $values.resources -}}
{{- $args := $container.args -}}
{{- range $values.namespaces }}{{ $args = append $args (printf "--namespace=%s" .) }}{{ end -}}
{{- if gt (int $values.shards) 1 }}{{ $args = append $args (printf "--shards=%d" (int $values.shards)) }}{{ end -}}
{{- if $values.metrics.enabled -}}
{{- $args = append $args (printf "--metrics-address=0.0.0.0:%d" (int $values.metrics.port)) -}}
{{- $_ := set $container "ports" (append $container.ports (dict "name" "metrics" "containerPort" (int $values.metrics.port))) -}}
{{- end -}}
{{- $_ := set $container "args" (concat $args $values.extraArgs) -}}
{{- $_ := set $container "env" (concat $container.env $values.extraEnv) -}}
{{- $_ := set $pod "nodeSelector" $values.nodeSelector -}}
{{- with $values.imagePullSecrets }}{{ $_ := set $pod "imagePullSecrets" . }}{{ end -}}
{{- with $values.tolerations }}{{ $_ := set $pod "tolerations" . }}{{ end -}}
{{- with $values.affinity }}{{ $_ := set $pod "affinity" . }}{{ end -}}
{{- with $values.priorityClassName }}{{ $_ := set $pod "priorityClassName" . }}{{ end -}}
{{- if $values.topologySpread.topologyKey -}}
{{- $spread := index $pod.topologySpreadConstraints 0 -}}
{{- $_ := set $spread "topologyKey" $values.topologySpread.topologyKey -}}
{{- $_ := set $spread "whenUnsatisfiable" $values.topologySpread.whenUnsatisfiable -}}
{{- else -}}
{{- $_ := unset $pod "topologySpreadConstraints" -}}
{{- end -}}
{{- end }}
