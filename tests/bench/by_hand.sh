#!/bin/sh
# The page's procedure as people do it by hand: Helm, kubectl, two values files, the secret through a file.
#   by_hand.sh CHART FOLDER      with KUBECONFIG set; FOLDER is for the files that the page tells to write
set -eu
chart=$1 folder=$2
umask 077

cat > "$folder/primary.yaml" <<'YAML'
global:
  name: consul
  datacenter: dc1
  tls: {enabled: true}
  federation: {enabled: true, createFederationSecret: true}
  acls: {manageSystemACLs: true, createReplicationToken: true}
  gossipEncryption: {autoGenerate: true}
connectInject: {enabled: true}
meshGateway: {enabled: true, service: {port: 8443}}
server: {replicas: 1}
YAML
helm install consul "$chart" --kube-context sandbox-dc1-admin --namespace consul --create-namespace \
  -f "$folder/primary.yaml" > /dev/null
kubectl --context sandbox-dc1-admin -n consul rollout status statefulset/consul-server --timeout 120s
kubectl --context sandbox-dc1-admin -n consul apply -f - <<'YAML'
apiVersion: consul.hashicorp.com/v1alpha1
kind: ProxyDefaults
metadata: {name: global}
spec: {meshGateway: {mode: local}}
YAML
kubectl --context sandbox-dc1-admin -n consul wait proxydefaults/global --for=condition=Synced --timeout 120s

kubectl --context sandbox-dc1-admin -n consul get secret consul-federation --output yaml > "$folder/secret.yaml"
kubectl --context sandbox-dc2-admin create namespace consul
# As it comes out it does not go in: resourceVersion and uid must go first (the page does not say so).
sed -i -e '/^  resourceVersion:/d' -e '/^  uid:/d' -e '/^  creationTimestamp:/d' "$folder/secret.yaml"
kubectl --context sandbox-dc2-admin -n consul apply --filename "$folder/secret.yaml"
rm "$folder/secret.yaml"

cluster=$(kubectl config view -o jsonpath="{.contexts[?(@.name == \"sandbox-dc2\")].context.cluster}")
url=$(kubectl config view -o jsonpath="{.clusters[?(@.name == \"$cluster\")].cluster.server}")
cat > "$folder/secondary.yaml" <<YAML
global:
  name: consul
  datacenter: dc2
  tls:
    enabled: true
    caCert: {secretName: consul-federation, secretKey: caCert}
    caKey: {secretName: consul-federation, secretKey: caKey}
  acls:
    manageSystemACLs: true
    replicationToken: {secretName: consul-federation, secretKey: replicationToken}
  federation: {enabled: true, k8sAuthMethodHost: "$url", primaryDatacenter: dc1}
  gossipEncryption: {secretName: consul-federation, secretKey: gossipEncryptionKey}
connectInject: {enabled: true}
meshGateway: {enabled: true, service: {port: 8443}}
server:
  replicas: 1
  extraVolumes:
    - {type: secret, name: consul-federation, items: [{key: serverConfigJSON, path: config.json}], load: true}
YAML
helm install consul "$chart" --kube-context sandbox-dc2-admin --namespace consul -f "$folder/secondary.yaml" > /dev/null
kubectl --context sandbox-dc2-admin -n consul rollout status statefulset/consul-server --timeout 120s
kubectl --context sandbox-dc2-admin -n consul rollout status deployment/consul-mesh-gateway --timeout 120s

# The page's own proof, from both sides, looked at until it shows what the page shows.
shows() { # context, datacenter that it must read
  kubectl --context "$1" -n consul exec statefulset/consul-server -- consul members -wan | grep -c alive | grep -q 2 &&
  kubectl --context "$1" -n consul exec statefulset/consul-server -- consul catalog services -datacenter "$2" |
    grep -q mesh-gateway
}
for side in "sandbox-dc1-admin dc2" "sandbox-dc2-admin dc1"; do
  tries=0
  until shows $side 2> /dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] || { echo "not federated: $side" >&2; exit 1; }
    sleep 0.5
  done
done
echo "federated"
