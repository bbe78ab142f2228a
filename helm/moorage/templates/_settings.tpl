{{- /* settings.yaml of hub and service, as on one machine. What the hub and the service do not read yet stands in the two templates
"moorage.newSettings.*" and in "moorage.kubernetes" alone; names and meanings are in docs/kubernetes.md. */}}

{{- define "moorage.newSettings.hub" -}}
platform: kubernetes
hub_host: 0.0.0.0
hub_connect_url: {{ include "moorage.hubUrl" . }}
proxy_api_url: {{ include "moorage.proxyApiUrl" . }}
service_connect_url: {{ include "moorage.serviceUrl" . }}
kubernetes:
  {{- include "moorage.kubernetes" . | nindent 2 }}
{{- end }}

{{- define "moorage.newSettings.service" -}}
platform: kubernetes
service_connect_url: {{ include "moorage.serviceUrl" . }}
kubernetes:
  {{- include "moorage.kubernetes" . | nindent 2 }}
{{- end }}

{{- define "moorage.kubernetes" -}}
{{- $user := .Values.singleuser -}}
release: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
managed_by: {{ include "moorage.managedBy" . }}
{{- if eq .Values.rbac.mode "namespaced" }}
namespaces: {{ .Values.rbac.namespaces | toJson }}
{{- else }}
namespace_prefix: {{ include "moorage.namespacePrefix" . }}
namespace_labels: {{ .Values.userNamespaces.labels | toJson }}
namespace_annotations: {{ .Values.userNamespaces.annotations | toJson }}
workloads_role: {{ include "moorage.workloadsRole" . }}
spawner_role: {{ include "moorage.spawnerRole" . }}
{{- end }}
hub_account: {{ include "moorage.hubAccount" . }}
service_account: {{ include "moorage.serviceAccount" . }}
proxy_pods: {{ include "moorage.proxyPods" . }}.{{ .Release.Namespace }}
{{- if include "moorage.hasPriorities" . }}
priority_class: {{ include "moorage.userPriority" . }}
{{- end }}
quota: {{ .Values.userNamespaces.quota | toJson }}
pods:
  image: {{ include "moorage.image" (list . $user.image) }}
  image_pull_policy: {{ $user.image.pullPolicy }}
  cpu_limit: {{ $user.cpu.limit }}
  uid: {{ $user.uid }}
  fs_gid: {{ $user.fsGid }}
  node_selector: {{ $user.nodeSelector | toJson }}
  tolerations: {{ $user.extraTolerations | toJson }}
  env: {{ $user.extraEnv | toJson }}
homes:
  capacity: {{ $user.storage.capacity }}
  mount_path: {{ $user.storage.homeMountPath }}
  storage_class: {{ $user.storage.dynamic.storageClass | quote }}
  access_modes: {{ $user.storage.dynamic.storageAccessModes | toJson }}
gpu_types: {{ .Values.gpu.types | toJson }}
network_policy:
  enabled: {{ .Values.networkPolicy.enabled }}
  blocked_addresses: {{ .Values.networkPolicy.blockedAddresses | toJson }}
  non_private_ips: {{ $user.networkPolicy.egressAllowRules.nonPrivateIPs }}
  private_ips: {{ $user.networkPolicy.egressAllowRules.privateIPs }}
  egress: {{ $user.networkPolicy.egress | toJson }}
  {{- with .Values.networkPolicy.dns }}
  dns:
    namespace: {{ .namespace }}
    labels: {{ .labels | default (dict "k8s-app" "kube-dns") | toJson }}
    ports: {{ .ports | toJson }}
    ranges: {{ .ranges | toJson }}
  {{- end }}
  {{- if .Values.existingHub.enabled }}
  hub_labels: {{ .Values.existingHub.hubLabels | toJson }}
  proxy_labels: {{ .Values.existingHub.proxyLabels | toJson }}
  {{- end }}
  core_labels: {{ dict "app.kubernetes.io/instance" .Release.Name "app.kubernetes.io/name" (default .Chart.Name .Values.nameOverride) | toJson }}
registry:
  url: {{ .Values.registry.url | quote }}
  insecure: {{ .Values.registry.insecure }}
  push_secret: {{ ternary "/etc/moorage/registry/push/.dockerconfigjson" "" (not (empty .Values.registry.pushSecret)) | quote }}
  pull_secret: {{ ternary "/etc/moorage/registry/pull/.dockerconfigjson" "" (not (empty .Values.registry.pullSecret)) | quote }}
builds:
  image: {{ include "moorage.image" (list . .Values.service.image) }}
  namespace: {{ .Values.builds.namespace | quote }}
  env: {{ .Values.builds.extraEnv | toJson }}
  ca_certificates: {{ .Values.builds.caCertificates | toJson }}
  egress: {{ .Values.builds.egress | toJson }}
  keep_images_days: {{ .Values.builds.keepImagesDays }}
  cpu: {{ .Values.builds.cpu }}
  memory: {{ .Values.builds.memory }}
  disk: {{ .Values.builds.disk }}
  concurrent: {{ .Values.builds.concurrent }}
  node_selector: {{ .Values.builds.nodeSelector | toJson }}
  tolerations: {{ .Values.builds.tolerations | toJson }}
  system:
    namespace: {{ .Values.builds.system.namespace | quote }}
    user_namespace: {{ .Values.builds.system.userNamespace }}
    sources: {{ .Values.builds.system.sources | toJson }}
    apt: {{ .Values.builds.system.apt | toJson }}
watch:
  resync_s: {{ .Values.watch.resync }}
  silence_s: {{ .Values.watch.silence }}
  stale_s: {{ .Values.watch.stale }}
kuberay: {{ .Values.clusters.kuberay.enabled }}
dask_operator: {{ .Values.clusters.daskOperator.enabled }}
{{- end }}

{{- define "moorage.settings.hub" -}}
{{- $user := .Values.singleuser -}}
public_url: {{ include "moorage.publicUrl" . }}
origins: {{ include "moorage.origins" . }}
port: 8000
hub_port: 8081
proxy_api_port: 8001
service_port: 8090
authenticator: {{ .Values.hub.config.JupyterHub.authenticator_class | quote }}
authenticator_settings: {{ omit .Values.hub.config "JupyterHub" | toJson }}
notebook_cpu: {{ $user.cpu.guarantee }}
notebook_memory: {{ $user.memory.guarantee | quote }}
start_timeout_s: {{ $user.startTimeout }}
{{ include "moorage.newSettings.hub" . }}
{{- end }}

{{- define "moorage.settings.service" -}}
host: 0.0.0.0
port: 8090
public_url: {{ include "moorage.publicUrl" . }}
origins: {{ include "moorage.origins" . }}
hub_api_url: {{ include "moorage.hubUrl" . }}/hub/api
port_wall: "off"
build_timeout_s: {{ .Values.builds.timeout }}
{{- /* The hub tries to make a pod for as long as a start may take: what was admitted is held until it has said how that went. */}}
admission_lease_s: {{ add .Values.singleuser.startTimeout 60 }}
log_format: json
{{ include "moorage.newSettings.service" . }}
{{- end }}

{{- /* settings.yaml of (list $ "hub"): the chart's own, and what the values add to it. */}}
{{- define "moorage.settingsFile" -}}
{{- $root := index . 0 -}}
{{- $part := index . 1 -}}
{{- $own := include (printf "moorage.settings.%s" $part) $root | fromYaml -}}
{{- if hasKey $own "Error" }}{{ fail (printf "the %s's settings can't be made: %s" $part $own.Error) }}{{ end -}}
{{- $more := (index $root.Values $part).settings -}}
{{- dict $part (merge (dict) $more $own) | toYaml -}}
{{- end }}
