{{/* The containers and volumes of each stage. */}}

{{- define "triptych.preprocess-container" -}}
{{- $root := index . 0 -}}
{{- $address := ternary "in-process" (include "triptych.address" (list $root "postprocess")) (not (not (include "triptych.in-process" $root))) -}}
{{- $settings := dict "controller" (include "triptych.address" (list $root "controller")) "postprocess" $address -}}
{{- if eq $root.Values.mode "Grouped" }}{{ $_ := set $settings "own_predictor" "$(POD_IP):8001" }}{{ end -}}
{{- include "triptych.python-container" (list $root "preprocess" (index . 1) $settings) }}
{{- with include "triptych.tls-mounts" $root }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "triptych.postprocess-container" -}}
{{- $root := index . 0 -}}
{{- include "triptych.python-container" (list $root "postprocess" (index . 1) (dict
      "controller" (include "triptych.address" (list $root "controller")))) }}
{{- with include "triptych.tls-mounts" $root }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Triton: the same command line for NVIDIA's image and for triton-cpu. */}}
{{- define "triptych.predictor-container" -}}
{{- $root := index . 0 -}}
{{- $values := $root.Values.predictor -}}
name: {{ index . 1 }}
image: {{ include "triptych.image" (list $root $values.image) }}
imagePullPolicy: {{ $root.Values.imagePullPolicy }}
args:
  - tritonserver
  - --model-repository={{ include "triptych.models-folder" $root }}
  # The controller says what is loaded.
  - --model-control-mode=explicit
  # One broken model does not make the server unready.
  - --strict-readiness=false
  # The configurations are complete; completing one would start it twice.
  - --disable-auto-complete-config
  - --grpc-port=8001
  - --metrics-port=8002
  {{- if include "triptych.listens-on-ipv6" $root }}
  - "--grpc-address=[::]"
  {{- end }}
  {{- if eq (join "" $root.Values.network.ipFamilies) "IPv6" }}
  # The prefix is libevhtp's; the page is on IPv6 alone then.
  - "--metrics-address=ipv6:::"
  {{- end }}
  - --allow-http=false
  - --exit-timeout-secs={{ $values.shutdown.graceSeconds }}
  {{- include "triptych.control-option" $root | nindent 2 }}
  {{- range $values.args }}
  - {{ . | quote }}
  {{- end }}
ports:
  {{- include "triptych.ports" (list $root "predictor") | nindent 2 }}
{{- with include "triptych.control-variable" (list $root "MODEL_CONTROL_KEY") }}
env:
  {{- . | nindent 2 }}
{{- end }}
resources:
  {{- include "triptych.predictor-resources" $root | nindent 2 }}
startupProbe:
  grpc: {port: 8001}
  periodSeconds: 1
  failureThreshold: 180
livenessProbe:
  grpc: {port: 8001}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  grpc: {port: 8001}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- include "triptych.server.lifecycle" $values }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "triptych.container-security" $root | nindent 2 }}
volumeMounts:
  {{- include "triptych.models-mount" $root | nindent 2 }}
  - {name: tmp, mountPath: /tmp}
  - {name: shm, mountPath: /dev/shm}
{{- end }}

{{- define "triptych.predictor-resources" -}}
{{- $resources := deepCopy .Values.predictor.resources -}}
{{- if .Values.predictor.gpus }}
{{- $gpus := dict .Values.predictor.gpuResource .Values.predictor.gpus }}
{{- $_ := set $resources "limits" (merge $gpus ($resources.limits | default dict)) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* /tmp holds triton-cpu's backends, which have to be writable. */}}
{{- define "triptych.predictor-volumes" -}}
- {name: tmp, emptyDir: {}}
- {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ .Values.predictor.sharedMemory }}}}
{{- end }}

{{- define "triptych.controller-container" -}}
{{- $settings := dict "triton" (include "triptych.address" (list . "predictor"))
      "serve_undeclared" .Values.controller.serveUndeclared
      "identity" "$(POD_NAME)_$(POD_IP):9002" -}}
{{- $documents := dict "kubernetes" true "lease" (include "triptych.name" (list . "controller")) "namespace" .Release.Namespace -}}
{{- $settings = merge $settings (ternary (dict "served_models" "/served-models") $documents (not (not .Lane))) -}}
{{- include "triptych.python-container" (list . "controller" "controller" (merge $settings (include "triptych.models-settings" . | fromJson))) }}
{{- include "triptych.store-keys" . }}
volumeMounts:
  {{- if include "triptych.models-are-mirrored" . }}
  - {name: models, mountPath: /models}
  {{- else }}
  {{- include "triptych.models-mount" . | nindent 2 }}
  {{- end }}
  {{- if .Lane }}
  - {name: served-models, mountPath: /served-models, readOnly: true}
  {{- end }}
  {{- with include "triptych.tls-mounts" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Where GPU nodes are chosen. */}}
{{- define "triptych.predictor-placement" -}}
{{- with .Values.predictor.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.predictor.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.predictor.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}
