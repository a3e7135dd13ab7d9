{{/* Arguments: root, lane. */}}
{{- define "triptych.predictor-pod" -}}
{{- $arguments := dict "root" .root "lane" .lane "stage" "predictor" "component" "predictor" -}}
{{- $container := include "triptych.container-name" $arguments -}}
{{ include "triptych.pod-fields" $arguments }}
{{- include "triptych.triton-init-containers" $arguments }}
containers:
  - {{ include "triptych.predictor-container" (merge (dict "container" $container) $arguments) | indent 4 | trim }}
{{- include "triptych.pod-volumes" $arguments }}
{{- end }}

{{/* Triton: the same command line for NVIDIA's image and for triton-cpu. Arguments: root, lane, stage, container. */}}
{{- define "triptych.predictor-container" -}}
{{- $values := .lane.values.predictor -}}
name: {{ .container }}
image: {{ include "triptych.image" (dict "root" .root "lane" .lane "image" $values.image) | quote }}
imagePullPolicy: {{ .lane.values.imagePullPolicy }}
args:
  - tritonserver
  - --model-repository={{ include "triptych.models-folder" . }}
  # The controller loads and unloads.
  - --model-control-mode=explicit
  # One broken model must not make the server unready.
  - --strict-readiness=false
  # The configurations are complete. Completing one would start it twice.
  - --disable-auto-complete-config
  - --grpc-port=8001
  - --metrics-port=8002
  {{- if include "triptych.listens-on-ipv6" . }}
  - "--grpc-address=[::]"
  {{- end }}
  {{- if eq (join "" .lane.values.network.ipFamilies) "IPv6" }}
  # The prefix is libevhtp's. With it the metrics are on IPv6 alone.
  - "--metrics-address=ipv6:::"
  {{- end }}
  - --allow-http=false
  - --exit-timeout-secs={{ int $values.shutdown.graceSeconds }}
  {{- if $values.modelControl.restricted }}
  # Kubernetes puts the key in. A protocol that is not named stays open to preprocess.
  - --grpc-restricted-protocol=model-repository,shared-memory,trace,logging:key=$(MODEL_CONTROL_KEY)
  {{- end }}
  {{- range $values.args }}
  - {{ . | quote }}
  {{- end }}
ports:
  {{- include "triptych.ports" . | nindent 2 }}
{{- include "triptych.container-env" . }}
{{- include "triptych.container-resources" . }}
startupProbe:
  grpc: {port: 8001, service: ""}
  periodSeconds: 1
  failureThreshold: 180
livenessProbe:
  grpc: {port: 8001, service: ""}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  grpc: {port: 8001, service: ""}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- include "triptych.lifecycle" . }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "triptych.container-security" . | nindent 2 }}
{{- include "triptych.container-mounts" . }}
{{- end }}

{{- define "triptych.predictor-env" -}}
{{ include "triptych.control-variable" (dict "lane" .lane "variable" "MODEL_CONTROL_KEY") }}
{{- end }}

{{- define "triptych.predictor-mounts" -}}
{{ include "triptych.models-mount" . }}
- {name: tmp, mountPath: /tmp}
- {name: shm, mountPath: /dev/shm}
{{- end }}

{{/* /tmp has the backends of triton-cpu, which have to be writable. */}}
{{- define "triptych.predictor-volumes" -}}
{{ include "triptych.models-volume" . }}
- {name: tmp, emptyDir: {}}
- {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ .lane.values.predictor.sharedMemory | quote }}}}
{{- end }}
