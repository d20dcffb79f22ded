{{/* What every object's name begins with. */}}
{{- define "consul.fullname" -}}
{{- $given := .Values.fullnameOverride | default .Values.global.name -}}
{{- $given | default (printf "%s-%s" .Release.Name (.Values.nameOverride | default "consul")) | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "consul.name" -}}
{{- .Values.nameOverride | default "consul" | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of an object: (list . "component") */}}
{{- define "consul.labels" -}}
{{- $root := index . 0 -}}
app: {{ include "consul.name" $root }}
chart: consul-helm
heritage: {{ $root.Release.Service }}
release: {{ $root.Release.Name }}
component: {{ index . 1 }}
{{- end }}

{{/* Labels that pods are found by; they never change, so the release's version is not among them. */}}
{{- define "consul.selector" -}}
{{- $root := index . 0 -}}
app: {{ include "consul.name" $root }}
chart: consul-helm
release: {{ $root.Release.Name }}
component: {{ index . 1 }}
{{- end }}

{{/* Metadata of a namespaced object: (list . "name suffix" "component") */}}
{{- define "consul.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "consul.fullname" $root }}-{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "consul.labels" (list $root (index . 2)) | nindent 2 }}
{{- end }}

{{/* Metadata of a Job's pod: (list . "component") */}}
{{- define "consul.jobPodMetadata" -}}
{{- $root := index . 0 -}}
name: {{ include "consul.fullname" $root }}-{{ index . 1 }}
labels:
  {{- include "consul.selector" (list $root (index . 1)) | nindent 2 }}
  {{- with $root.Values.global.extraLabels }}{{ toYaml . | nindent 2 }}{{ end }}
annotations:
  consul.hashicorp.com/connect-inject: "false"
{{- end }}

{{/* ServiceAccount, Role and RoleBinding of one component: dict root, component, rules, hook (may be missing) */}}
{{- define "consul.namespacedAccess" -}}
{{- $metadata := include "consul.metadata" (list .root .component .component) -}}
{{- $name := printf "%s-%s" (include "consul.fullname" .root) .component -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- $metadata | nindent 2 }}
  {{- with .hook }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- $metadata | nindent 2 }}
  {{- with .hook }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- $metadata | nindent 2 }}
  {{- with .hook }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* ServiceAccount, ClusterRole and ClusterRoleBinding of one component: dict root, component, rules */}}
{{- define "consul.clusterAccess" -}}
{{- $name := printf "%s-%s" (include "consul.fullname" .root) .component -}}
{{- $labels := include "consul.labels" (list .root .component) -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "consul.metadata" (list .root .component .component) | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels:
    {{- $labels | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{/* Switches: "true" or nothing. */}}
{{- define "consul.serverEnabled" -}}
{{- if eq (toString .Values.server.enabled) "-" }}{{ if .Values.global.enabled }}true{{ end }}{{ else if .Values.server.enabled }}true{{ end -}}
{{- end }}

{{- define "consul.uiEnabled" -}}
{{- if eq (toString .Values.ui.enabled) "-" }}{{ if .Values.global.enabled }}true{{ end }}{{ else if .Values.ui.enabled }}true{{ end -}}
{{- end }}

{{- define "consul.dnsEnabled" -}}
{{- if eq (toString .Values.dns.enabled) "-" }}{{ if .Values.connectInject.enabled }}true{{ end }}{{ else if .Values.dns.enabled }}true{{ end -}}
{{- end }}

{{/* Where the gossip key is, as JSON {name, key}; nothing where gossip is not encrypted. */}}
{{- define "consul.gossipKeyRef" -}}
{{- with .Values.global.gossipEncryption -}}
{{- if .autoGenerate -}}
{{ dict "name" (printf "%s-gossip-encryption-key" (include "consul.fullname" $)) "key" "key" | toJson }}
{{- else if and .secretName .secretKey -}}
{{ dict "name" .secretName "key" .secretKey | toJson }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Volumes that hold the server CA as tls.crt, and its key as tls.key. */}}
{{- define "consul.caCertVolume" -}}
name: consul-ca-cert
secret:
  secretName: {{ .Values.global.tls.caCert.secretName | default (printf "%s-ca-cert" (include "consul.fullname" .)) }}
  items:
    - key: {{ .Values.global.tls.caCert.secretKey | default "tls.crt" }}
      path: tls.crt
{{- end }}

{{- define "consul.caKeyVolume" -}}
name: consul-ca-key
secret:
  secretName: {{ .Values.global.tls.caKey.secretName | default (printf "%s-ca-key" (include "consul.fullname" .)) }}
  items:
    - key: {{ .Values.global.tls.caKey.secretKey | default "tls.key" }}
      path: tls.key
{{- end }}

{{/* How a component finds the Consul servers. */}}
{{- define "consul.serverEnv" -}}
- name: CONSUL_ADDRESSES
  value: {{ include "consul.fullname" . }}-server.{{ .Release.Namespace }}.svc
- name: CONSUL_GRPC_PORT
  value: "8502"
- name: CONSUL_HTTP_PORT
  value: {{ ternary "8501" "8500" .Values.global.tls.enabled | quote }}
- name: CONSUL_DATACENTER
  value: {{ .Values.global.datacenter }}
- name: CONSUL_API_TIMEOUT
  value: {{ .Values.global.consulAPITimeout }}
{{- if .Values.global.tls.enabled }}
- name: CONSUL_USE_TLS
  value: "true"
- name: CONSUL_CACERT_FILE
  value: /consul/tls/ca/tls.crt
{{- end }}
{{- end }}

{{/* Secondaries need tokens that the primary knows too: those are issued there. */}}
{{- define "consul.loginAuthMethod" -}}
{{ include "consul.fullname" . }}-k8s-component-auth-method
{{- if and .Values.global.federation.enabled .Values.global.federation.primaryDatacenter }}-{{ .Values.global.datacenter }}{{ end -}}
{{- end }}

{{- define "consul.loginDatacenter" -}}
{{- if and .Values.global.federation.enabled .Values.global.federation.primaryDatacenter -}}
{{ .Values.global.federation.primaryDatacenter }}
{{- else -}}
{{ .Values.global.datacenter }}
{{- end -}}
{{- end }}

{{/* Where pods may run: dict of one component's values */}}
{{- define "consul.placement" -}}
{{- with .tolerations }}
tolerations: {{ . | nindent 2 }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{ . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Stop, with a message, if something holds: (list condition message) */}}
{{- define "consul.refuse" -}}
{{- if index . 0 }}{{ fail (index . 1) }}{{ end -}}
{{- end }}

{{/* Stop if only one half of a reference to a Secret is given: (list reference "its path") */}}
{{- define "consul.refuseHalf" -}}
{{- $reference := index . 0 -}}
{{- if ne (empty $reference.secretName) (empty $reference.secretKey) -}}
{{- fail (printf "%[1]s needs secretName and secretKey: only one of the two is set." (index . 1)) -}}
{{- end -}}
{{- end }}
