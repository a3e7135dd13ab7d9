{{/* The model repository: volume `models` of the predictor and of the controller. */}}

{{/* Not empty if the models are in an object store. Argument: lane. */}}
{{- define "triptych.models-are-mirrored" -}}
{{- if has .lane.values.models.store (list "s3" "gs") }}true{{ end }}
{{- end }}

{{/* Triton's folder of models. A mirror is a folder below the mount, because it publishes a version by renaming. */}}
{{- define "triptych.models-folder" -}}
{{ ternary "/models/mirror" "/models" (not (not (include "triptych.models-are-mirrored" .))) }}
{{- end }}

{{/* The mount of a container that reads the models. Argument: lane. */}}
{{- define "triptych.models-mount" -}}
{{- $path := ternary .lane.values.models.path "" (eq .lane.values.models.store "pvc") -}}
- {name: models, mountPath: /models, readOnly: true{{ with $path }}, subPath: {{ . | quote }}{{ end }}}
{{- end }}

{{- define "triptych.models-volume" -}}
{{- if eq .lane.values.models.store "pvc" -}}
- {name: models, persistentVolumeClaim: {claimName: {{ .lane.values.models.claim | quote }}, readOnly: true}}
{{- else -}}
- {name: models, emptyDir: {}}
{{- end }}
{{- include "triptych.store-volumes" . }}
{{- end }}

{{/* The init containers of a pod with Triton. Arguments: root, lane, stage. */}}
{{- define "triptych.triton-init-containers" -}}
{{- if include "triptych.models-are-mirrored" . }}
{{- $poll := printf "--every=%ds" (int .lane.values.models.pollSeconds) }}
initContainers:
  # Fills the folder before Triton starts.
  - {{ include "triptych.mirror-container" (dict "root" .root "lane" .lane "stage" .stage "name" "models" "option" "--once") | indent 4 | trim }}
  # Sidecar: keeps the folder in step for as long as the pod lives.
  - {{ include "triptych.mirror-container" (dict "root" .root "lane" .lane "stage" .stage "name" "mirror" "option" $poll) | indent 4 | trim }}
    restartPolicy: Always
{{- else }}
{{- include "triptych.copy-init-container" . }}
{{- end }}
{{- end }}

{{/* The init container that copies the models out of their image. Arguments: root, lane, stage. */}}
{{- define "triptych.copy-init-container" -}}
{{- $values := .lane.values -}}
{{- if eq $values.models.store "image" }}
initContainers:
  - name: models
    image: {{ include "triptych.image" (dict "root" .root "lane" .lane "image" $values.models.image) | quote }}
    command: [cp, -R, /models/., /target]
    imagePullPolicy: {{ $values.imagePullPolicy }}
    {{- with (index .lane.pods .stage).extraEnv }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $values.models.copy.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    securityContext:
      {{- include "triptych.container-security" . | nindent 6 }}
    volumeMounts:
      - {name: models, mountPath: /target}
      {{- with (index .lane.pods .stage).extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end }}
{{- end }}

{{/* A container that copies the models of a store into Triton's folder. Arguments: root, lane, stage, name, option. */}}
{{- define "triptych.mirror-container" -}}
{{- $values := .lane.values -}}
name: {{ .name }}
image: {{ include "triptych.image" (dict "root" .root "lane" .lane "image" $values.controller.image) | quote }}
imagePullPolicy: {{ $values.imagePullPolicy }}
command: [triptych]
args:
  - mirror
  - {{ $values.models.uri | quote }}
  - {{ include "triptych.models-folder" . }}
  - --whole
  - {{ .option }}
  {{- range $name, $value := include "triptych.store-options" . | fromJson }}
  - {{ printf "--%s=%s" (replace "_" "-" $name) $value | quote }}
  {{- end }}
{{- $extra := (index .lane.pods .stage).extraEnv }}
{{- with concat (include "triptych.store-env" . | fromYamlArray) $extra }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with $values.models.mirror.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "triptych.container-security" . | nindent 2 }}
volumeMounts:
  - {name: models, mountPath: /models}
  {{- with include "triptych.store-mounts" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with (index .lane.pods .stage).extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Endpoint and region of a store, as environment. Argument: lane. */}}
{{- define "triptych.store-env" -}}
{{- $models := .lane.values.models -}}
{{- with $models.endpoint }}
- {name: {{ ternary "AWS_ENDPOINT_URL" "GOOGLE_BASE_URL" (eq $models.store "s3") }}, value: {{ . | quote }}}
{{- end }}
{{- with $models.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* The controller's settings for the models, as JSON. It reads only the contracts from a store. Argument: lane. */}}
{{- define "triptych.models-settings" -}}
{{- $values := .lane.values -}}
{{- if include "triptych.models-are-mirrored" . -}}
{{- $settings := dict "model_repository" $values.models.uri "mirror" "/models/contracts" "poll_s" $values.models.pollSeconds -}}
{{- if not (hasKey ($values.controller.settings | default dict) "failure_ttl_s") }}{{ $_ := set $settings "failure_ttl_s" $values.models.pollSeconds }}{{ end -}}
{{- range $name, $value := include "triptych.store-options" . | fromJson }}{{ $_ := set $settings (printf "store_%s" $name) $value }}{{ end -}}
{{- toJson $settings }}
{{- else -}}
{{- toJson (dict "model_repository" "/models") }}
{{- end }}
{{- end }}
