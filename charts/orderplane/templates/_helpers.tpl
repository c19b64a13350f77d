{{- define "orderplane.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- ternary .Release.Name (printf "%s-orderplane" .Release.Name) (contains "orderplane" .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels of every object. Arguments: the chart's context, the component. */}}
{{- define "orderplane.labels" -}}
{{- $context := index . 0 -}}
{{- with $context.Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
{{ include "orderplane.selector" . }}
app.kubernetes.io/part-of: orderplane
app.kubernetes.io/version: {{ $context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $context.Chart.Name $context.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels by which the pods of a component are found; they never change. Arguments: the chart's context, the component. */}}
{{- define "orderplane.selector" -}}
app.kubernetes.io/name: orderplane
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The image of a component: by digest where one is given. Arguments: the chart's context, the component. */}}
{{- define "orderplane.image" -}}
{{- $context := index . 0 -}}
{{- $component := index . 1 -}}
{{- with $context.Values.image -}}
{{- $repository := printf "%s/%s" .prefix $component -}}
{{- $digest := get .digests $component -}}
{{- if $digest }}{{ $repository }}@{{ $digest }}{{ else }}{{ $repository }}:{{ default $context.Chart.AppVersion .tag }}{{ end -}}
{{- end -}}
{{- end }}

{{/* What all pods have in their spec. Argument: the chart's context. */}}
{{- define "orderplane.pod" -}}
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the pods of processes that stay have, too. Argument: the chart's context. */}}
{{- define "orderplane.scheduling" -}}
{{- include "orderplane.pod" . }}
{{- with .Values.priorityClass.name }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.topologySpread }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        app.kubernetes.io/name: orderplane
        app.kubernetes.io/instance: {{ $.Release.Name }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The metadata of a process's pods: new settings begin a rollout. Arguments: the chart's context, the component. */}}
{{- define "orderplane.podMetadata" -}}
{{- $context := index . 0 -}}
annotations:
  checksum/settings: {{ include "orderplane.settings" $context | sha256sum }}
  {{- with $context.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
labels:
  {{- include "orderplane.labels" . | nindent 2 }}
{{- end }}

{{/* The container of a process, without what is its own. Arguments: the chart's context, the component. */}}
{{- define "orderplane.container" -}}
{{- $context := index . 0 -}}
{{- $component := index . 1 -}}
{{ include "orderplane.jobContainer" . }}
envFrom:
  - configMapRef:
      name: {{ include "orderplane.fullname" $context }}
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 2
  timeoutSeconds: 2
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  {{- toYaml (get $context.Values $component).resources | nindent 2 }}
{{- end }}

{{/* Image and rights of a container. Arguments: the chart's context, the component. */}}
{{- define "orderplane.jobContainer" -}}
image: {{ include "orderplane.image" . }}
{{- with (index . 0).Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The Secret with a component's settings. Arguments: the chart's context, the component. */}}
{{- define "orderplane.secret" -}}
{{- $context := index . 0 -}}
{{- $component := index . 1 -}}
{{- default (printf "%s-%s" (include "orderplane.fullname" $context) $component) (get $context.Values $component).secret -}}
{{- end }}

{{- define "orderplane.webhookCertificate" -}}
{{- $certificate := .Values.webhook.certificate -}}
{{- if and $certificate.secret (ne $certificate.issuer "you") -}}
{{- fail "webhook.certificate.secret is for issuer: you. The others make FULLNAME-webhook-tls." -}}
{{- end -}}
{{- default (printf "%s-webhook-tls" (include "orderplane.fullname" .)) $certificate.secret -}}
{{- end }}

{{/* What all processes read from their environment. Some are fixed: the chart's ports and volumes need them. */}}
{{- define "orderplane.settings" -}}
{{- $fixed := dict
  "ORDERPLANE_METRICS_HOST" "0.0.0.0"
  "ORDERPLANE_METRICS_PORT" "9090"
  "ORDERPLANE_SECRETS_DIR" "/run/secrets/orderplane"
-}}
{{- merge $fixed .Values.settings (dict "ORDERPLANE_LOG_FORMAT" "json") | toYaml -}}
{{- end }}

{{/*
Objects of a file that kustomize uses, too, with the labels, names and namespace of this release.
Arguments: the chart's context, the path.
*/}}
{{- define "orderplane.objects" -}}
{{- $context := index . 0 -}}
{{- $fullname := include "orderplane.fullname" $context -}}
{{- $account := printf "system:serviceaccount:%s:%s-" $context.Release.Namespace $fullname -}}
{{- $text := $context.Files.Get (index . 1) | required (printf "the chart lacks %s" (index . 1)) -}}
{{- range splitList "\n---\n" (replace "system:serviceaccount:orderplane-system:orderplane-" $account $text) }}
{{- $object := fromYaml . }}
{{- $component := default "monitoring" (get $object.metadata.labels "app.kubernetes.io/component") }}
{{- $labels := include "orderplane.labels" (list $context $component) | fromYaml }}
{{- $_ := set $object.metadata "labels" (merge $labels $object.metadata.labels) }}
{{- if eq $object.kind "CustomResourceDefinition" }}
{{- $_ := set $object.metadata "annotations" (merge (dict "helm.sh/resource-policy" "keep") (default dict $object.metadata.annotations)) }}
{{- else if eq $object.apiVersion "monitoring.coreos.com/v1" }}
{{- $_ := set $object.metadata "name" $fullname }}
{{- $_ := set $object.metadata "namespace" $context.Release.Namespace }}
{{- with $object.spec.selector }}{{ $_ := set .matchLabels "app.kubernetes.io/instance" $context.Release.Name }}{{ end }}
{{- else if eq $object.kind "ClusterRoleBinding" }}
{{- $subject := dict "kind" "ServiceAccount" "name" (printf "%s-%s" $fullname $component) "namespace" $context.Release.Namespace }}
{{- $_ := set $object "subjects" (list $subject) }}
{{- else if eq $object.kind "MutatingWebhookConfiguration" }}
{{- if eq $context.Values.webhook.certificate.issuer "cert-manager" }}
{{- $_ := set $object.metadata "annotations" (dict "cert-manager.io/inject-ca-from" (printf "%s/%s-webhook" $context.Release.Namespace $fullname)) }}
{{- end }}
{{- range $webhook := $object.webhooks }}
{{- $service := dict "name" (printf "%s-webhook" $fullname) "namespace" $context.Release.Namespace }}
{{- $_ := set $webhook.clientConfig "service" (merge $service $webhook.clientConfig.service) }}
{{- with $context.Values.webhook.certificate.caBundle }}{{ $_ := set $webhook.clientConfig "caBundle" . }}{{ end }}
{{- end }}
{{- end }}
---
{{ toYaml $object }}
{{- end }}
{{- end }}
