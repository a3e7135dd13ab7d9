"""A sample of each error class."""

from triptych import errors

SAMPLES: dict[type[errors.TriptychError], errors.TriptychError] = {
    errors.InvalidRequest: errors.InvalidRequest("text"),
    errors.InvalidInput: errors.InvalidInput("x", "a", "b"),
    errors.InvalidParameter: errors.InvalidParameter("x", "a", "b"),
    errors.UnknownTarget: errors.UnknownTarget("text, with 100 % of an 'Ä' and\na line"),
    errors.UnknownModel: errors.UnknownModel("x"),
    errors.RefusedTarget: errors.RefusedTarget("model 'x'", "its contract is invalid"),
    errors.UnknownRoute: errors.UnknownRoute("f", "r"),
    errors.UnknownVersion: errors.UnknownVersion("m", "1"),
    errors.UnknownAlias: errors.UnknownAlias("m", "a"),
    errors.NotSupported: errors.NotSupported("text"),
    errors.Unavailable: errors.Unavailable("text"),
    errors.StageUnavailable: errors.StageUnavailable("s", "a", "r"),
    errors.ModelFailing: errors.ModelFailing("text"),
    errors.Draining: errors.Draining("text"),
    errors.LoadFailed: errors.LoadFailed("m", "r"),
    errors.UnreachableDeadline: errors.UnreachableDeadline("text", 1.0),
    errors.DeadlineExceeded: errors.DeadlineExceeded("text"),
    errors.Overloaded: errors.Overloaded("text"),
    errors.AnswerTooLarge: errors.AnswerTooLarge("text"),
    errors.Internal: errors.Internal("secret"),
    errors.ContractViolation: errors.ContractViolation("secret"),
    errors.NotLoaded: errors.NotLoaded("secret"),
}

ERRORS: list[Exception] = [*SAMPLES.values(), ValueError("secret")]
BY_NAME = {type(error).__name__: error for error in ERRORS}
BY_NAME["LaterPlease"] = errors.Overloaded("text", 1.5)
