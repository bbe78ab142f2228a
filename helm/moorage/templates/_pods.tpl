{{- /* What the chart's own pods have in common. All of it passes Pod Security `restricted`. */}}

{{- define "moorage.image" -}}
{{- /* Of (list $ image). */ -}}
{{- $image := index . 1 -}}
{{- $tag := $image.tag | default (index . 0).Chart.AppVersion | toString -}}
{{- ternary (printf "%s@%s" $image.name $tag) (printf "%s:%s" $image.name $tag) (hasPrefix "sha256:" $tag) -}}
{{- end }}

{{- define "moorage.podSecurityContext" -}}
{{ include "moorage.podSecurity" . }}
{{- include "moorage.pullSecrets" .Values.imagePullSecrets }}
{{- end }}

{{- define "moorage.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.podSecurity.runAsUser }}
  runAsGroup: {{ .Values.podSecurity.fsGroup }}
  fsGroup: {{ .Values.podSecurity.fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
enableServiceLinks: false
{{- end }}

{{- /* Of a list of names of Secrets. */}}
{{- define "moorage.pullSecrets" -}}
{{- with . | compact | uniq }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "moorage.containerSecurityContext" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- /* Where a pod of hub, service or proxy may run: of (list $ values of the part). */}}
{{- define "moorage.placement" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- if include "moorage.hasPriorities" $root }}
priorityClassName: {{ include "moorage.corePriority" $root }}
{{- end }}
{{- with merge (dict) $part.nodeSelector $root.Values.scheduling.corePods.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat $root.Values.scheduling.corePods.tolerations $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Variables of a map of values: a text, or {valueFrom: ...}. */}}
{{- define "moorage.extraEnv" -}}
{{- range $name, $value := . }}
- name: {{ $name | quote }}
  {{- if kindIs "string" $value }}
  value: {{ $value | quote }}
  {{- else }}
  {{- toYaml $value | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Puts the settings and the tokens of (list $ image) into the state folder, which hub and service own and mend the modes of.
A token follows its Secret. The vault key does not: the service may have turned to a newer one, and what it sealed needs that. The hub
knows each token of the service until it is told which one ended: that stands below the one in use, until the hub has read it. */}}
{{- define "moorage.placeContainer" -}}
- name: place-settings
  image: {{ include "moorage.image" . | quote }}
  imagePullPolicy: {{ (index . 1).pullPolicy }}
  command:
    - sh
    - -euc
    - |
      umask 077
      mkdir -p /srv/moorage/secrets /srv/moorage/database
      place() { cp "$1" "$2.$POD" && mv "$2.$POD" "$2"; }
      place /etc/moorage/settings/settings.yaml /srv/moorage/settings.yaml
      for token in /etc/moorage/tokens/*; do
        name=$(basename "$token")
        placed=/srv/moorage/secrets/$name
        if [ "$name" = service-to-hub ] && [ -e "$placed" ]; then
          read -r now < "$token" || true
          read -r before < "$placed" || true
          if [ "$now" != "$before" ]; then
            printf '%s\n%s\n' "$now" "$before" > "$placed.$POD" && mv "$placed.$POD" "$placed"
          fi
        elif [ "$name" != vault-key ] || [ ! -e "$placed" ]; then
          place "$token" "$placed"
        fi
      done
  env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}} # several may place at once on a shared volume
  resources:
    requests: {cpu: 10m, memory: 16Mi}
  {{- include "moorage.containerSecurityContext" . | nindent 2 }}
  volumeMounts:
    - {name: state, mountPath: /srv}
    - {name: settings, mountPath: /etc/moorage/settings, readOnly: true}
    - {name: tokens, mountPath: /etc/moorage/tokens, readOnly: true}
{{- end }}

{{- /* A claim: of (list $ name component values). Kept when the release goes: it holds what people made. */}}
{{- define "moorage.claim" -}}
{{- $values := index . 3 -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ index . 1 }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels:
    {{- include "moorage.labels" (list (index . 0) (index . 2)) | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
    {{- with $values.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  accessModes: {{ $values.accessModes | toJson }}
  {{- with $values.storageClassName }}
  storageClassName: {{ . | quote }}
  {{- end }}
  resources:
    requests:
      storage: {{ $values.storage }}
{{- end }}

{{- /* A disruption budget: of (list $ name component values). */}}
{{- define "moorage.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ index . 1 }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels:
    {{- include "moorage.labels" (list (index . 0) (index . 2)) | nindent 4 }}
spec:
  maxUnavailable: {{ (index . 3).maxUnavailable }}
  selector:
    matchLabels:
      {{- include "moorage.selector" (list (index . 0) (index . 2)) | nindent 6 }}
{{- end }}

{{- /* A service account: of (list $ name component values). Nothing mounts its token but a pod that says so. */}}
{{- define "moorage.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ index . 1 }}
  namespace: {{ (index . 0).Release.Namespace }}
  labels:
    {{- include "moorage.labels" (list (index . 0) (index . 2)) | nindent 4 }}
  {{- with (index . 3).annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}
