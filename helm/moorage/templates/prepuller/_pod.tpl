{{- /* A pod that has each image as a container that ends at once: where it runs, the node has them. Of (list $ component priority). */}}
{{- define "moorage.pullerTemplate" -}}
{{- $root := index . 0 -}}
metadata:
  labels:
    {{- include "moorage.selector" (list $root (index . 1)) | nindent 4 }}
  {{- with $root.Values.prePuller.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  {{- include "moorage.podSecurity" $root | nindent 2 }}
  {{- include "moorage.pullSecrets" (append $root.Values.imagePullSecrets $root.Values.registry.pullSecret) | nindent 2 }}
  {{- if and (index . 2) (include "moorage.hasPriorities" $root) }}
  priorityClassName: {{ include "moorage.userPriority" $root }}
  {{- end }}
  {{- with $root.Values.singleuser.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $tolerations := $root.Values.singleuser.extraTolerations }}
  {{- range $root.Values.gpu.types }}
  {{- $tolerations = concat $tolerations (.tolerations | default list) }}
  {{- end }}
  {{- with $tolerations }}
  tolerations:
    {{- uniq . | toYaml | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: 0
  initContainers:
    {{- $images := dict "notebook" $root.Values.singleuser.image }}
    {{- range $name, $image := merge (dict) $root.Values.prePuller.extraImages $images }}
    - name: image-{{ $name }}
      image: {{ include "moorage.image" (list $root $image) | quote }}
      imagePullPolicy: {{ $root.Values.singleuser.image.pullPolicy }}
      command: [sh, -c, "exit 0"]
      env:
        - {name: NVIDIA_VISIBLE_DEVICES, value: void} # else an image made for GPUs would be shown all of its machine
      resources:
        {{- toYaml $root.Values.prePuller.resources | nindent 8 }}
      {{- include "moorage.containerSecurityContext" $root | nindent 6 }}
    {{- end }}
  containers:
    - name: pause
      image: {{ include "moorage.image" (list $root $root.Values.prePuller.pause.image) | quote }}
      imagePullPolicy: {{ $root.Values.prePuller.pause.image.pullPolicy }}
      resources:
        {{- toYaml $root.Values.prePuller.resources | nindent 8 }}
      {{- include "moorage.containerSecurityContext" $root | nindent 6 }}
{{- end }}

{{- /* Metadata of what the hook is made of: of (list $ weight component). */}}
{{- define "moorage.hookMetadata" -}}
name: {{ include "moorage.puller" (index . 0) }}-hook
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "moorage.labels" (list (index . 0) (index . 2)) | nindent 2 }}
annotations:
  helm.sh/hook: pre-install,pre-upgrade
  helm.sh/hook-weight: {{ index . 1 | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
