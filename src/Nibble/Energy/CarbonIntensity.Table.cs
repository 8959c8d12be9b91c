using Nibble.IO;

namespace Nibble.Energy;

/// <summary>Greenhouse gas of a country's electricity.</summary>
/// <param name="Country">Name.</param>
/// <param name="Alpha2">Two-letter code (ISO 3166-1).</param>
/// <param name="Alpha3">Three-letter code.</param>
/// <param name="GramsPerKilowattHour">Grams of CO2 equivalents per kWh generated, over the whole life cycle, mean of the year.</param>
/// <param name="Year">Year of the number.</param>
public sealed record CarbonIntensity(string Country, string Alpha2, string Alpha3, double GramsPerKilowattHour, int Year)
{
    /// <summary>Where the numbers come from.</summary>
    public const string Origin = "Ember and Energy Institute, through Our World in Data (carbon intensity of electricity)";

    /// <summary>What is used where no country is named.</summary>
    public static CarbonIntensity World { get; } = new("World", "WORLD", "WORLD", 480, 2023);

    /// <summary>Every country in the table, by name.</summary>
    public static IReadOnlyList<CarbonIntensity> All { get; } =
    [
        new("Argentina", "AR", "ARG", 354, 2023),
        new("Australia", "AU", "AUS", 549, 2023),
        new("Austria", "AT", "AUT", 111, 2023),
        new("Belgium", "BE", "BEL", 138, 2023),
        new("Brazil", "BR", "BRA", 98, 2023),
        new("Bulgaria", "BG", "BGR", 335, 2023),
        new("Canada", "CA", "CAN", 170, 2023),
        new("Chile", "CL", "CHL", 291, 2023),
        new("China", "CN", "CHN", 582, 2023),
        new("Colombia", "CO", "COL", 260, 2023),
        new("Croatia", "HR", "HRV", 205, 2023),
        new("Cyprus", "CY", "CYP", 534, 2023),
        new("Czechia", "CZ", "CZE", 450, 2023),
        new("Denmark", "DK", "DNK", 152, 2023),
        new("Egypt", "EG", "EGY", 570, 2023),
        new("Estonia", "EE", "EST", 417, 2023),
        new("Finland", "FI", "FIN", 79, 2023),
        new("France", "FR", "FRA", 56, 2023),
        new("Germany", "DE", "DEU", 381, 2023),
        new("Greece", "GR", "GRC", 337, 2023),
        new("Hungary", "HU", "HUN", 204, 2023),
        new("Iceland", "IS", "ISL", 28, 2022),
        new("India", "IN", "IND", 713, 2023),
        new("Indonesia", "ID", "IDN", 676, 2022),
        new("Ireland", "IE", "IRL", 291, 2023),
        new("Israel", "IL", "ISR", 583, 2022),
        new("Italy", "IT", "ITA", 331, 2023),
        new("Japan", "JP", "JPN", 485, 2023),
        new("Kenya", "KE", "KEN", 70, 2023),
        new("Latvia", "LV", "LVA", 123, 2023),
        new("Lithuania", "LT", "LTU", 160, 2023),
        new("Luxembourg", "LU", "LUX", 105, 2023),
        new("Malaysia", "MY", "MYS", 606, 2022),
        new("Mexico", "MX", "MEX", 507, 2023),
        new("Netherlands", "NL", "NLD", 268, 2023),
        new("New Zealand", "NZ", "NZL", 113, 2023),
        new("Nigeria", "NG", "NGA", 523, 2023),
        new("Norway", "NO", "NOR", 30, 2023),
        new("Pakistan", "PK", "PAK", 441, 2023),
        new("Peru", "PE", "PER", 266, 2023),
        new("Poland", "PL", "POL", 662, 2023),
        new("Portugal", "PT", "PRT", 166, 2023),
        new("Romania", "RO", "ROU", 241, 2023),
        new("Saudi Arabia", "SA", "SAU", 707, 2022),
        new("Singapore", "SG", "SGP", 471, 2023),
        new("Slovakia", "SK", "SVK", 117, 2023),
        new("Slovenia", "SI", "SVN", 231, 2023),
        new("South Africa", "ZA", "ZAF", 708, 2023),
        new("South Korea", "KR", "KOR", 431, 2023),
        new("Spain", "ES", "ESP", 174, 2023),
        new("Sweden", "SE", "SWE", 41, 2023),
        new("Switzerland", "CH", "CHE", 35, 2023),
        new("Taiwan", "TW", "TWN", 642, 2023),
        new("Thailand", "TH", "THA", 550, 2023),
        new("Turkey", "TR", "TUR", 465, 2023),
        new("Ukraine", "UA", "UKR", 260, 2022),
        new("United Arab Emirates", "AE", "ARE", 561, 2022),
        new("United Kingdom", "GB", "GBR", 238, 2023),
        new("United States", "US", "USA", 369, 2023),
        new("Vietnam", "VN", "VNM", 475, 2023),
        World,
    ];

    /// <summary>A country by its name or code; an unknown one is refused with the list.</summary>
    public static CarbonIntensity Find(string country) =>
        All.FirstOrDefault(entry => new[] { entry.Country, entry.Alpha2, entry.Alpha3 }.Contains(country.Trim(), StringComparer.OrdinalIgnoreCase))
        ?? throw new NibbleException(
            ErrorKind.Usage,
            $"no carbon intensity is known for country '{country}'",
            "known are " + string.Join(", ", All.Select(entry => $"{entry.Country} ({entry.Alpha2})")),
            "name one of them by name or two- or three-letter code");

    /// <summary>Grams of CO2 equivalents of some energy.</summary>
    public double Grams(double joules) => joules / 3.6e6 * GramsPerKilowattHour;

    /// <summary>For results: country, number, year and origin.</summary>
    public override string ToString() => $"{Country}, {GramsPerKilowattHour} g/kWh in {Year}: {Origin}";
}
