# What install, uninstall and copy-images share; read by them, not run.

stack=vxlan-operator
label=vxlan-operator-data
kept=vxlan-operator-secrets     # the volume with all that the secrets are made from
version=$(sed -n 's/^ *image: ${WORKER_IMAGE:-vxlan-operator-worker:\(.*\)}$/\1/p' "$root/compose.yml")
worker_image=${WORKER_IMAGE:-vxlan-operator-worker:$version}
controller_image=${CONTROLLER_IMAGE:-vxlan-operator-controller:$version}
redis_image=${REDIS_IMAGE:-redis:8}
postgres_image=${POSTGRES_IMAGE:-postgres:17}
haproxy_image=${HAPROXY_IMAGE:-haproxy:3.2}
secrets="api-token broker-url-controller broker-url-worker ca database-ca database-cert database-key
  database-server-cert database-server-key database-url join-token redis-acl server-cert server-key signing-key"
next_key=vxlan-operator-signing-key-next     # of the recipe in docs/install-stack.md

say() { printf '%s\n' "$*"; }

# What nodes said, such as their names and errors, without what a terminal would obey.
printable() { printf '%s' "$*" | LC_ALL=C tr -cd '[:print:]\n'; }

# die PROBLEM HINT
die() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

usage_error() {
  printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
  exit 2
}

# Sets `node_id` and `node_address`, or says why this is no place to install from.
need_manager() {
  # Not `docker info`, which fails by its own template then.
  answer=$(docker version --format '{{.Server.Version}}' 2>&1) ||
    die "Docker does not answer: $(say "$answer" | tail -n 1)" "docker info"
  info=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}} {{.Swarm.NodeID}} {{.Swarm.NodeAddr}}')
  # A word each; the last two are empty outside a Swarm.
  set -f; set -- $info; set +f
  case ${1-} in
    active) ;;
    inactive) die "this Docker is in no Swarm" "docker swarm init, or docker swarm join on a manager's word" ;;
    locked) die "this Docker's Swarm is locked" "docker swarm unlock" ;;
    *) die "this Docker's Swarm is ${1-unknown}: $(docker info --format '{{.Swarm.Error}}' 2>&1)" "docker info" ;;
  esac
  [ "${2-}" = true ] || die "this node is no manager of its Swarm" "run this on a manager"
  node_id=$3 node_address=${4-}
  docker node ls --quiet >/dev/null 2>&1 ||
    die "the Swarm does not answer: $(docker node ls 2>&1 | tail -n 1)" "docker node ls, once most managers are back"
}

services() { docker service ls --quiet --filter "label=com.docker.stack.namespace=$stack"; }

# Of this stack, also of services that were removed, until their containers have ended.
tasks() { docker stack ps --quiet "$stack" 2>/dev/null || true; }

# Of this stack, those that exist.
present_secrets() { docker secret ls --filter "name=vxlan-operator-" --format '{{.Name}}'; }
