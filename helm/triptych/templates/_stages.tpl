{{/* The containers and volumes of each stage. */}}

{{- define "triptych.preprocess-container" -}}
{{- $root := index . 0 -}}
{{- $address := ternary "127.0.0.1:9001" (include "triptych.address" (list $root "postprocess")) (eq $root.Values.mode "Grouped") -}}
{{- include "triptych.python-container" (list $root "preprocess" (index . 1) (dict
      "repository" (include "triptych.address" (list $root "repository")) "postprocess" $address)) }}
{{- end }}

{{- define "triptych.postprocess-container" -}}
{{- $root := index . 0 -}}
{{- include "triptych.python-container" (list $root "postprocess" (index . 1) (dict
      "repository" (include "triptych.address" (list $root "repository")))) }}
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
  - --model-repository=/models
  # The repository says what is loaded.
  - --model-control-mode=explicit
  # One broken model does not make the server unready.
  - --strict-readiness=false
  # The configurations are complete; completing one would start it twice.
  - --disable-auto-complete-config
  - --grpc-port=8001
  - --metrics-port=8002
  - --allow-http=false
  - --exit-timeout-secs={{ $values.shutdown.graceSeconds }}
  {{- range $values.args }}
  - {{ . | quote }}
  {{- end }}
ports:
  {{- include "triptych.ports" (list $root "predictor") | nindent 2 }}
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
{{- include "triptych.lifecycle" $values }}
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

{{- define "triptych.repository-container" -}}
{{- $root := . -}}
{{- include "triptych.python-container" (list $root "repository" "repository" (dict
      "model_repository" "/models" "triton" (include "triptych.address" (list $root "predictor"))
      "kubernetes" true "lease" (include "triptych.name" (list $root "repository"))
      "namespace" $root.Release.Namespace
      "identity" "$(POD_NAME)_$(POD_IP):9002")) }}
volumeMounts:
  {{- include "triptych.models-mount" $root | nindent 2 }}
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
