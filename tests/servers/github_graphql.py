"""The three GraphQL operations that the package uses, answered from the state of the server of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphql import FieldNode, ObjectValueNode, OperationDefinitionNode, VariableNode, parse

from tests.servers.github_description import graphql_faults
from tests.servers.github_state import Answer, Comment, Request

if TYPE_CHECKING:
    from tests.servers.github import GitHubServer


def answer_query(github: GitHubServer, request: Request) -> Answer:
    """The answer to a query or a mutation, after it was held against GitHub's schema."""
    body = request.body if isinstance(request.body, dict) else {}
    query, variables = str(body.get("query", "")), dict(body.get("variables") or {})
    github.violations += graphql_faults(query)
    (operation,) = (node for node in parse(query).definitions if isinstance(node, OperationDefinitionNode))
    data: dict[str, object] = {}
    for field in operation.selection_set.selections:
        assert isinstance(field, FieldNode)
        name, key = field.name.value, (field.alias or field.name).value
        if name == "viewer":
            data[key] = {"login": github.writer}
        elif name == "repository":
            data[key] = {"pullRequest": {"reviewThreads": _threads(github, int(variables["number"]))}}
        elif not github.may_resolve:
            return Answer(200, {"data": None, "errors": [{"type": "FORBIDDEN", "message": "Resource not accessible by integration"}]})
        else:
            thread = _named(github, str(variables[_variable(field)]))
            thread.resolved = name == "resolveReviewThread"
            data[key] = {"thread": {"id": _id(thread)}}
    return Answer(200, {"data": data})


def _threads(github: GitHubServer, number: int) -> dict[str, object]:
    nodes = [
        {
            "id": _id(comment),
            "isResolved": comment.resolved,
            "viewerCanResolve": not comment.resolved,
            "viewerCanUnresolve": comment.resolved,
            "comments": {"nodes": [{"databaseId": comment.id}]},
        }
        for comment in github.threads(number)
    ]
    return {"pageInfo": {"hasNextPage": False, "endCursor": None}, "nodes": nodes}


def _named(github: GitHubServer, node: str) -> Comment:
    return next(comment for comment in github.everything if _id(comment) == node)


def _id(comment: Comment) -> str:
    return f"PRRT_{comment.id}"


def _variable(field: FieldNode) -> str:
    """The variable that carries the thread: `input: {threadId: $t0}`."""
    (argument,) = field.arguments or ()
    assert isinstance(argument.value, ObjectValueNode)
    value = argument.value.fields[0].value
    assert isinstance(value, VariableNode)
    return value.name.value
