{{- /* The names of all objects, in one place. Those of the cluster begin with the release's name, too: helm refuses a second release's. */}}

{{- define "moorage.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | replace "." "-" | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "moorage.hub" -}}{{ include "moorage.fullname" . }}-hub{{- end }}
{{- define "moorage.service" -}}{{ include "moorage.fullname" . }}-service{{- end }}
{{- define "moorage.proxy" -}}{{ include "moorage.fullname" . }}-proxy{{- end }}
{{- define "moorage.proxyPublic" -}}{{ include "moorage.fullname" . }}-proxy-public{{- end }}
{{- define "moorage.proxyApi" -}}{{ include "moorage.fullname" . }}-proxy-api{{- end }}
{{- define "moorage.proxyPods" -}}{{ include "moorage.fullname" . }}-proxy-pods{{- end }}
{{- define "moorage.puller" -}}{{ include "moorage.fullname" . }}-image-puller{{- end }}

{{- define "moorage.hubAccount" -}}
{{- if .Values.existingHub.enabled -}}
{{- .Values.existingHub.serviceAccount -}}
{{- else -}}
{{- .Values.hub.serviceAccount.name | default (ternary (include "moorage.hub" .) "default" .Values.hub.serviceAccount.create) -}}
{{- end -}}
{{- end }}
{{- define "moorage.serviceAccount" -}}
{{- .Values.service.serviceAccount.name | default (ternary (include "moorage.service" .) "default" .Values.service.serviceAccount.create) -}}
{{- end }}

{{- /* Secrets. */}}
{{- define "moorage.tokensSecret" -}}{{ .Values.secrets.existingSecret | default (printf "%s-tokens" (include "moorage.fullname" .)) }}{{- end }}
{{- define "moorage.hubSettingsSecret" -}}{{ include "moorage.hub" . }}-settings{{- end }}
{{- define "moorage.serviceSettingsSecret" -}}{{ include "moorage.service" . }}-settings{{- end }}

{{- /* Rights. */}}
{{- define "moorage.serviceRole" -}}{{ include "moorage.service" . }}{{- end }}
{{- define "moorage.workloadsRole" -}}{{ include "moorage.fullname" . }}-workloads{{- end }}
{{- define "moorage.spawnerRole" -}}{{ include "moorage.fullname" . }}-spawner{{- end }}
{{- define "moorage.systemRole" -}}{{ include "moorage.fullname" . }}-system-packages{{- end }}

{{- define "moorage.corePriority" -}}{{ include "moorage.fullname" . }}-core{{- end }}
{{- define "moorage.userPriority" -}}{{ include "moorage.fullname" . }}-users{{- end }}
{{- define "moorage.hasPriorities" -}}
{{- if and .Values.scheduling.podPriority.enabled (eq .Values.rbac.mode "cluster") -}}yes{{- end -}}
{{- end }}

{{- /* Users' namespaces: what they are called, and the label by which they are known as ours: `namespace.release`, one label value. */}}
{{- define "moorage.namespacePrefix" -}}
{{- .Values.userNamespaces.prefix | default (include "moorage.fullname" . | trunc 20 | trimSuffix "-") -}}
{{- end }}
{{- define "moorage.managedLabel" -}}moorage.dev/managed-by{{- end }}
{{- define "moorage.managedBy" -}}
{{- $name := printf "%s.%s" .Release.Namespace .Release.Name -}}
{{- if gt (len $name) 63 -}}{{ $name | trunc 50 | trimSuffix "." | trimSuffix "-" }}-{{ $name | sha256sum | trunc 12 }}{{- else -}}{{ $name }}{{- end -}}
{{- end }}

{{- /* Labels of every object, and those by which pods are selected, of (list $ component). */}}
{{- define "moorage.labels" -}}
{{- $root := index . 0 -}}
{{ include "moorage.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}
{{- define "moorage.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}
{{- /* The same where hub and proxy may be those of an existing hub. */}}
{{- define "moorage.foundBy" -}}
{{- $values := (index . 0).Values -}}
{{- if and $values.existingHub.enabled (has (index . 1) (list "hub" "proxy")) -}}
{{ index $values.existingHub (printf "%sLabels" (index . 1)) | toYaml }}
{{- else -}}
{{ include "moorage.selector" . }}
{{- end -}}
{{- end }}

{{- /* Addresses inside the cluster. */}}
{{- define "moorage.hubUrl" -}}
{{- if .Values.existingHub.enabled -}}
{{- .Values.existingHub.url | default (printf "http://hub.%s:8081" .Release.Namespace) -}}
{{- else -}}
http://{{ include "moorage.hub" . }}.{{ .Release.Namespace }}:8081
{{- end -}}
{{- end }}
{{- define "moorage.serviceUrl" -}}http://{{ include "moorage.service" . }}.{{ .Release.Namespace }}:8090{{- end }}
{{- define "moorage.proxyApiUrl" -}}http://{{ include "moorage.proxyApi" . }}.{{ .Release.Namespace }}:8001{{- end }}

{{- /* Addresses for a browser. */}}
{{- define "moorage.publicUrl" -}}
{{- $values := .Values -}}
{{- if $values.publicUrl -}}
{{- $values.publicUrl -}}
{{- else if and $values.ingress.enabled $values.ingress.hosts -}}
{{- ternary "https" "http" (not (empty $values.ingress.tls)) }}://{{ first $values.ingress.hosts -}}
{{- else if and $values.gateway.enabled $values.gateway.hostnames -}}
{{- ternary "https" "http" $values.gateway.tls }}://{{ first $values.gateway.hostnames -}}
{{- else -}}
http://localhost:8000
{{- end -}}
{{- end }}
{{- define "moorage.origins" -}}
{{- if .Values.existingHub.enabled -}}
one
{{- else if ne .Values.origins "auto" -}}
{{- .Values.origins -}}
{{- else -}}
{{- $host := regexReplaceAll ":[0-9]+$" (include "moorage.publicUrl" . | trimPrefix "https://" | trimPrefix "http://") "" -}}
{{- ternary "one" "per-user" (regexMatch "^([0-9.]+|\\[.*\\])$" $host) -}}
{{- end -}}
{{- end }}
{{- /* Of (list $ hosts): each, and with origins per user all below it, as a JSON list. */}}
{{- define "moorage.hostnames" -}}
{{- $perUser := eq (include "moorage.origins" (index . 0)) "per-user" -}}
{{- $found := list -}}
{{- range index . 1 -}}
{{- $found = append $found . -}}
{{- if $perUser }}{{- $found = append $found (printf "*.%s" .) }}{{- end -}}
{{- end -}}
{{- $found | toJson -}}
{{- end }}
