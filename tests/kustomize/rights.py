"""What each ServiceAccount may do in a cluster, and what it must be refused.

A line is: verbs; resources, as `kubectl auth can-i` names them; a namespace, or * for the whole cluster; a
name, where it is about one object.
"""

from collections.abc import Iterator
from itertools import product

NAMESPACE = "orderplane-system"

ALLOWED = {
    # Some, so that no table of refusals holds because nothing is bound at all.
    "operator": """
        list,watch  orders.orderplane.dev,shipments.orderplane.dev  *
        create      payments.orderplane.dev  demo
        update      orders.orderplane.dev/status  demo
        get         customresourcedefinitions.apiextensions.k8s.io  *  orders.orderplane.dev
        """,
    "gateway": """
        list,watch   orders.orderplane.dev  *
        create       orders.orderplane.dev  demo
        delete       reservations.orderplane.dev  demo
        """,
    "webhook": "list customresourcedefinitions.apiextensions.k8s.io *",
    "audit": "list orders.orderplane.dev,shipments.orderplane.dev *",
    "webhook-certificate": """
        get,patch  secrets  orderplane-system  orderplane-webhook-tls
        get,patch  mutatingwebhookconfigurations.admissionregistration.k8s.io  *  orderplane-webhook
        """,
}

NOBODY = """
    get,list,watch,create,update,delete  secrets  *
    list,watch,create,delete             secrets  orderplane-system
    get,patch                            secrets  orderplane-system  orderplane-operator
    get,list,create,update,patch         leases.coordination.k8s.io  *
    get,create,update,patch              leases.coordination.k8s.io  orderplane-system
    list,create,update,patch             configmaps,nodes,persistentvolumes  *
    get,list,create,delete               pods  *
    create                               pods,pods/exec,serviceaccounts/token  orderplane-system
    impersonate                          users,groups,serviceaccounts  *
    create,update,patch,bind,escalate    clusterroles.rbac.authorization.k8s.io  *
    create,update,patch,bind,escalate    roles.rbac.authorization.k8s.io  demo
    create,update,patch                  clusterrolebindings.rbac.authorization.k8s.io  *
    create,update,patch                  rolebindings.rbac.authorization.k8s.io  demo
    create,update,patch,delete           validatingadmissionpolicies.admissionregistration.k8s.io  *
    create,update,patch,delete           validatingadmissionpolicybindings.admissionregistration.k8s.io  *
    list,create,update,delete            mutatingwebhookconfigurations.admissionregistration.k8s.io  *
    patch                         mutatingwebhookconfigurations.admissionregistration.k8s.io  *  another
    create,update,patch,delete           customresourcedefinitions.apiextensions.k8s.io  *
    create,delete                        namespaces  *
    deletecollection                     orders.orderplane.dev,payments.orderplane.dev  demo
    """

REFUSED = {
    "operator": """
        create,update  orders.orderplane.dev  demo
        get            customresourcedefinitions.apiextensions.k8s.io  *  another.example.org
        """,
    "gateway": """
        delete,update            orders.orderplane.dev  demo
        update,patch             orders.orderplane.dev/status  demo
        list,watch,patch         reservations.orderplane.dev  demo
        get,list,create,patch    payments.orderplane.dev,shipments.orderplane.dev  demo
        """,
    "webhook": "get,list,watch,create,patch orders.orderplane.dev,reservations.orderplane.dev demo",
    "audit": "create,update,patch,delete orders.orderplane.dev,reservations.orderplane.dev demo",
    # These use the API server not at all.
    "console": "get,list,watch,patch orders.orderplane.dev demo",
    "relay": "get,list,watch orders.orderplane.dev demo",
    "notifier": "get,list,watch orders.orderplane.dev demo",
    "deliverer": "get,list,watch orders.orderplane.dev demo",
    "migrate": "get,list,watch orders.orderplane.dev demo",
    "webhook-certificate": "get,list,watch,create orders.orderplane.dev demo",
}


def questions() -> Iterator[tuple[str, bool, dict[str, str]]]:
    """Component, whether its ServiceAccount has the right, and the attributes of a SubjectAccessReview."""
    for component, refused in REFUSED.items():
        for table, is_allowed in ((ALLOWED.get(component, ""), True), (NOBODY + refused, False)):
            for line in filter(None, map(str.strip, table.splitlines())):
                verbs, resources, where, *name = line.split()
                for verb, what in product(verbs.split(","), resources.split(",")):
                    whole, _, part = what.partition("/")
                    resource, _, group = whole.partition(".")
                    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": part}
                    attributes |= {
                        "namespace": where if where != "*" else "",
                        "name": name[0] if name else "",
                    }
                    yield component, is_allowed, attributes
