{{/* Pods: the same in every mode, except for the fields that Knative refuses. */}}

{{/* The labels of a pod. None changes with an upgrade, which would restart the pods. Arguments: root, lane, component. */}}
{{- define "triptych.pod-labels" -}}
{{ include "triptych.selector" . }}
{{- with .lane.values.fullnameOverride }}
triptych.dev/release: {{ . | quote }}
{{- end }}
{{- with (index .lane.pods .component).podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The annotations of a pod. Arguments: root, lane, component, stage; container: the first one's name. */}}
{{- define "triptych.pod-annotations" -}}
{{- $annotations := dict "kubectl.kubernetes.io/default-container" .container -}}
{{- $port := include "triptych.metrics-port" . -}}
{{- if and .lane.values.metrics.annotations $port }}
{{- $_ := set $annotations "prometheus.io/scrape" "true" -}}
{{- $_ := set $annotations "prometheus.io/port" $port -}}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- if has .component (list "predictor" "grouped" "controller") }}
{{- /* The cluster autoscaler keeps a node for the files of its pods; these are copies. */ -}}
{{- $copies := ternary (list) (list "models") (eq .lane.values.models.store "pvc") -}}
{{- if ne .component "controller" }}{{ $copies = concat $copies (list "tmp" "shm") }}{{ end -}}
{{- with $copies }}{{ $_ := set $annotations "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" (join "," .) }}{{ end -}}
{{- end -}}
{{- if and (eq .component "backend") (eq .lane.values.backend.features.store "embedded") }}
{{- /* The embedded store is filled when a pod starts, so other articles need other pods. */ -}}
{{- $_ := set $annotations "triptych.dev/articles" (.lane.values.backend.features.articles | default dict | toJson | sha256sum | trunc 16) -}}
{{- end -}}
{{- $merged := merge dict (index .lane.pods .component).podAnnotations $annotations -}}
{{- if and .lane.values.readinessHook.enabled (ne (index .lane.modes .stage) "Deployment") }}
{{- /* By this the hook knows whether KServe has applied the change. */ -}}
{{- $pod := list (include "triptych.pod-labels" .) (toYaml $merged) (include (printf "triptych.%s-pod" .component) .) | join "\n" -}}
{{- $_ := set $merged "triptych.dev/pod-digest" (printf "sha256:%s" ($pod | sha256sum | trunc 16)) -}}
{{- end -}}
{{- toYaml $merged }}
{{- end }}

{{/* The fields of a pod beside its containers and volumes. Arguments: root, lane, component, stage. */}}
{{- define "triptych.pod-fields" -}}
{{- $values := .lane.values -}}
{{- $knative := eq (index .lane.modes .stage) "Knative" -}}
serviceAccountName: {{ include "triptych.name" (dict "lane" .lane "name" .component) }}
automountServiceAccountToken: {{ and (eq .component "controller") (not .lane.canary) }}
# A Service with the name of a stage would set variables that the stage's settings do not know.
enableServiceLinks: false
{{- include "triptych.pull-secrets" . }}
{{- include "triptych.placement" . }}
{{- include "triptych.names-of-hosts" . }}
{{- if not $knative }}
terminationGracePeriodSeconds: {{ include "triptych.termination-grace" . }}
{{- include "triptych.pod-security" . }}
{{- include "triptych.classes" . }}
{{- with $values.topologySpreadKey }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ . | quote }}
    whenUnsatisfiable: ScheduleAnyway
    # During an update each of the two versions is spread by itself.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "triptych.selector" $ | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The security of a pod. Argument: lane. */}}
{{- define "triptych.pod-security" }}
securityContext:
  runAsNonRoot: true
  {{- with .lane.values.runAsUser }}
  runAsUser: {{ int . }}
  runAsGroup: {{ int . }}
  fsGroup: {{ int . }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* PriorityClass and RuntimeClass of a pod. Arguments: lane, component. */}}
{{- define "triptych.classes" -}}
{{- $runtime := ternary .lane.values.predictor.runtimeClassName "" (has .component (list "predictor" "grouped")) -}}
{{- with .lane.values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $runtime | default .lane.values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "triptych.termination-grace" -}}
{{- $grace := (index .lane.values .stage).shutdown.terminationGracePeriodSeconds -}}
{{ ternary (max $grace .lane.values.predictor.shutdown.terminationGracePeriodSeconds) $grace (eq .component "grouped") | int }}
{{- end }}

{{/* The pull secrets of the chart and of a parent chart, where a name alone is common too. Argument: lane. */}}
{{- define "triptych.pull-secrets" -}}
{{- $secrets := list -}}
{{- range concat ((.lane.values.global | default dict).imagePullSecrets | default list) (.lane.values.imagePullSecrets | default list) -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with uniq $secrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The nodes of a pod. Arguments: lane, component. */}}
{{- define "triptych.placement" -}}
{{- range $key := list "nodeSelector" "affinity" "tolerations" }}
{{- with index (index $.lane.pods $.component) $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* How a pod resolves names. Argument: lane. */}}
{{- define "triptych.names-of-hosts" -}}
{{- with .lane.values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- range $key := list "dnsConfig" "hostAliases" }}
{{- with index $.lane.values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The key `volumes` of a pod, if it has any. Arguments: root, lane, component. */}}
{{- define "triptych.pod-volumes" -}}
{{- $own := include (printf "triptych.%s-volumes" .component) . | trim -}}
{{- $extra := (index .lane.pods .component).extraVolumes -}}
{{- if or $own $extra }}
volumes:
  {{- with $own }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $extra }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The key `volumeMounts` of a stage's container, if it has any. Arguments: root, lane, stage. */}}
{{- define "triptych.container-mounts" -}}
{{- $own := include (printf "triptych.%s-mounts" .stage) . | trim -}}
{{- $extra := (index .lane.pods .stage).extraVolumeMounts -}}
{{- if or $own $extra }}
volumeMounts:
  {{- with $own }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $extra }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The key `env` of a stage's container, if it has any. Arguments: root, lane, stage. */}}
{{- define "triptych.container-env" -}}
{{- $own := include (printf "triptych.%s-env" .stage) . | trim -}}
{{- $extra := (index .lane.pods .stage).extraEnv -}}
{{- if or $own $extra }}
env:
  {{- with $own }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $extra }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The key `resources` of a stage's container, if it has any. Arguments: lane, stage. */}}
{{- define "triptych.container-resources" -}}
{{- $resources := deepCopy ((index .lane.values .stage).resources | default dict) -}}
{{- if and (eq .stage "predictor") .lane.values.predictor.gpus }}
{{- $gpus := dict .lane.values.predictor.gpuResource .lane.values.predictor.gpus }}
{{- $_ := set $resources "limits" (merge $gpus ($resources.limits | default dict)) }}
{{- end }}
{{- with $resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The security of every container. Argument: lane. */}}
{{- define "triptych.container-security" -}}
runAsNonRoot: true
{{- with .lane.values.runAsUser }}
runAsUser: {{ int . }}
runAsGroup: {{ int . }}
{{- end }}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Whether a stage serves REST; empty: no. Arguments: lane, stage. */}}
{{- define "triptych.rest" -}}
{{- if and (eq .stage "preprocess") .lane.values.preprocess.rest }}true{{ end -}}
{{- end }}

{{/* The ports of a stage's container. Knative takes one, named h2c. Arguments: lane, stage. */}}
{{- define "triptych.ports" -}}
{{- if eq (index .lane.modes .stage) "Knative" -}}
- {name: h2c, containerPort: {{ include "triptych.port" . }}, protocol: TCP}
{{- else -}}
- {name: grpc, containerPort: {{ include "triptych.port" . }}, protocol: TCP}
- {name: metrics, containerPort: {{ include "triptych.metrics-port" . }}, protocol: TCP}
{{- if include "triptych.rest" . }}
- {name: http, containerPort: 8080, protocol: TCP}
{{- end }}
{{- end }}
{{- end }}

{{/* The sleep before SIGTERM, in which endpoints forget the pod. Arguments: lane, stage. */}}
{{- define "triptych.lifecycle" -}}
{{- $seconds := (index .lane.values .stage).shutdown.preStopSeconds -}}
{{- if gt (int $seconds) 0 }}
lifecycle:
  preStop: {sleep: {seconds: {{ int $seconds }}}}
{{- end }}
{{- end }}

{{/* The name of a workload's first container; KServe wants its own. Arguments: lane, stage. */}}
{{- define "triptych.container-name" -}}
{{ ternary .stage "kserve-container" (eq (index .lane.modes .stage) "Deployment") }}
{{- end }}
