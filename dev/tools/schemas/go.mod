module orderplane.dev/tools/schemas

go 1.26.0

// Not to be built: the tests take API schemas from these modules.
require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/kedacore/keda/v2 v2.21.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	k8s.io/kubernetes v1.33.6
)
