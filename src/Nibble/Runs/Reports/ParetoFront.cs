namespace Nibble.Runs.Reports;

/// <summary>The points that no other point beats on both axes, lower being better on both.</summary>
public static class ParetoFront
{
    /// <summary>Indices of the front, by rising x.</summary>
    public static IReadOnlyList<int> Of(IReadOnlyList<(double X, double Y)> points)
    {
        List<int> front = [];
        double best = double.PositiveInfinity;
        foreach (int i in Enumerable.Range(0, points.Count).OrderBy(i => points[i].X).ThenBy(i => points[i].Y))
        {
            if (points[i].Y < best)
            {
                best = points[i].Y;
                front.Add(i);
            }
        }

        return front;
    }
}
