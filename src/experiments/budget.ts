/** The mean violation of the semigroup law that is allowed unless told otherwise, of the data's variance. */
export const violationBudget = 1e-2;
